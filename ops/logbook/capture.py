"""Writes captured calls down: redacted, bodies cut at a bounded length, a bounded number a capture, and only until its time is up."""

from __future__ import annotations

import json
import zlib
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit
from uuid import UUID

from django.utils import timezone

from ops import disk_guard
from ops.logbook import tap
from ops.logbook.rows import clean
from ops.logbook.tap import HEARD_BYTES, Heard
from ops.models import Capture, Exchange, Service
from ops.redaction import HIDDEN, is_secret_name, redact, redact_text

LONGEST = timedelta(hours=1)
KEPT = timedelta(days=3)
MOST_EXCHANGES = 1000
SHOWN_CHARS = 16_000
WAITING = 1000
# A secret that was cut in the middle at the end of what was heard is known to nobody: the end is left out.
_UNSURE_END = 400
_TEXTUAL = ("json", "text/", "xml", "javascript", "x-www-form-urlencoded", "event-stream")


@dataclass(slots=True)
class _Order:
    id: UUID
    service: str
    agent: str
    until: datetime
    count: int

    def wants(self, heard: Heard, service: str, now: datetime) -> bool:
        if now >= self.until or self.count >= MOST_EXCHANGES or (self.service and self.service != service):
            return False
        if not self.agent or self.agent == heard.agent:
            return True
        wanted = self.agent.lower()
        return wanted in heard.url.lower() or wanted.encode() in heard.request_body.lower()


class Recorder:
    """The captures of this process. ``look`` reads which are on; the tap calls ``hear``; ``flush`` writes what was heard."""

    def __init__(self) -> None:
        self._orders: tuple[_Order, ...] = ()
        self._services: tuple[tuple[str, str], ...] = ()
        self._heard: deque[Heard] = deque(maxlen=WAITING)

    @property
    def captures(self) -> int:
        """How many captures are on."""
        return len(self._orders)

    def look(self) -> None:
        """Follow the rows: listen while there is a capture, and only then."""
        now = timezone.now()
        rows = list(Capture.objects.filter(until__gt=now).values_list("pk", "service", "agent", "until"))
        known = {order.id: order.count for order in self._orders}
        self._orders = tuple(
            _Order(pk, service, agent, min(until, now + LONGEST), self._count(pk, known))
            for pk, service, agent, until in rows
        )
        if self._orders:
            found = Service.objects.values_list("name", "base_url")
            # The longest address first: one may begin with another.
            self._services = tuple(sorted(((n, u.rstrip("/")) for n, u in found if u), key=lambda one: -len(one[1])))
            tap.listen(self.hear)
        elif tap.listening():
            tap.listen(None)

    @staticmethod
    def _count(pk: UUID, known: dict[UUID, int]) -> int:
        return known[pk] if pk in known else Exchange.objects.filter(capture_id=pk).count()

    def hear(self, heard: Heard) -> None:
        """Called in the thread that makes the call: only puts it aside."""
        if any(timezone.now() < order.until for order in self._orders):
            self._heard.append(heard)

    def flush(self) -> int:
        """Write what was heard; returns how many rows."""
        if self._heard and disk_guard.may("capture"):
            self._heard.clear()
            return 0
        rows: list[Exchange] = []
        while self._heard:
            heard = self._heard.popleft()
            service = self._service_of(heard.url)
            for order in self._orders:
                if order.wants(heard, service, heard.at):
                    order.count += 1
                    rows.append(to_exchange(heard, order.id, service))
        if rows:
            alive = set(Capture.objects.filter(pk__in={row.capture_id for row in rows}).values_list("pk", flat=True))
            rows = [row for row in rows if row.capture_id in alive]
            Exchange.objects.bulk_create(rows, batch_size=50)
        full = [order.id for order in self._orders if order.count >= MOST_EXCHANGES]
        if full:
            now = timezone.now()
            Capture.objects.filter(pk__in=full, until__gt=now).update(until=now)
        return len(rows)

    def _service_of(self, url: str) -> str:
        return next(
            (name for name, base in self._services if url == base or url.startswith((f"{base}/", f"{base}?"))), ""
        )


def to_exchange(heard: Heard, capture: UUID, service: str) -> Exchange:
    """The redacted row of a call."""
    return Exchange(
        capture_id=capture,
        at=heard.at,
        service=service[:64],
        agent=clean(heard.agent)[:200],
        method=heard.method[:8],
        url=safe_url(heard.url)[:1000],
        status=heard.status,
        milliseconds=max(0, heard.milliseconds),
        request_headers=_headers(heard.request_headers),
        request_body=_body(heard.request_body, heard.request_size, heard.request_headers),
        response_headers=_headers(heard.response_headers),
        response_body=_body(heard.response_body, heard.response_size, heard.response_headers),
        error=clean(redact_text(heard.error))[:500],
    )


def safe_url(url: str) -> str:
    """An address without credentials, in its user part or its query."""
    parts = urlsplit(url)
    pieces = []
    for piece in parts.query.split("&") if parts.query else []:
        name, mark, value = piece.partition("=")
        pieces.append(f"{name}={HIDDEN}" if mark and value and is_secret_name(name) else piece)
    address = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "&".join(pieces), ""))
    return clean(redact_text(address))


def _headers(items: Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in items:
        # A cookie's or a challenge's value is a credential, however it is written.
        secret = is_secret_name(name) or name.lower() in ("www-authenticate", "proxy-authorization")
        shown = HIDDEN if secret and value else clean(redact_text(value))[:2000]
        found[name.lower()] = f"{found[name.lower()]}, {shown}" if name.lower() in found else shown
    return found


def _body(raw: bytes, size: int, headers: Iterable[tuple[str, str]]) -> str:
    if not size:
        return ""
    known = {name.lower(): value.lower() for name, value in headers}
    kind = known.get("content-type", "")
    cut = size > len(raw)
    text = _text(raw, known.get("content-encoding", ""), kind)
    if text is None:
        return f"<{size} bytes of {kind.partition(';')[0] or 'something that is no text'}>"
    if len(text) > HEARD_BYTES:
        text, cut = text[:HEARD_BYTES], True
    shown = _redacted(text, kind, cut)
    if len(shown) > SHOWN_CHARS:
        shown, cut = shown[:SHOWN_CHARS], True
    return f"{shown}\n… ({size} bytes in all)" if cut else shown


def _text(raw: bytes, encoding: str, kind: str) -> str | None:
    if kind and not any(word in kind for word in _TEXTUAL):
        return None
    if encoding in ("gzip", "deflate", "x-gzip"):
        try:
            # Windows of both kinds, and a beginning without its end, are fine here.
            raw = zlib.decompressobj(47).decompress(raw, HEARD_BYTES + 1)
        except zlib.error:
            return None
    elif encoding and encoding != "identity":
        return None
    text = raw.decode("utf-8", "replace")
    return None if "\x00" in text else text


def _redacted(text: str, kind: str, cut: bool) -> str:
    if not cut and "event-stream" not in kind:
        try:
            value: Any = json.loads(text)
        except (ValueError, RecursionError):
            pass
        else:
            return clean(json.dumps(redact(value), ensure_ascii=False, indent=1, default=str))
    if "x-www-form-urlencoded" in kind:
        pairs = [(name, HIDDEN if is_secret_name(name) else redact_text(value)) for name, value in parse_qsl(text)]
        return clean("&".join(f"{name}={value}" for name, value in pairs))
    if cut:
        # An open quote would hide from redaction what stands behind it.
        return clean(redact_text(f'{text}"'))[: -min(_UNSURE_END, len(text))]
    return clean(redact_text(text))


def to_har(exchanges: Iterable[Exchange], version: str) -> dict[str, Any]:
    """The exchanges as an HTTP Archive 1.2, which browsers' developer tools read."""
    return {
        "log": {
            "version": "1.2",
            "creator": {"name": "Switchboard", "version": version},
            "entries": [_har_entry(one) for one in exchanges],
        }
    }


def _har_entry(one: Exchange) -> dict[str, Any]:
    query = parse_qsl(urlsplit(one.url).query, keep_blank_values=True)
    request: dict[str, Any] = {
        "method": one.method,
        "url": one.url,
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": [{"name": name, "value": value} for name, value in one.request_headers.items()],
        "queryString": [{"name": name, "value": value} for name, value in query],
        "headersSize": -1,
        "bodySize": len(one.request_body.encode()),
    }
    if one.request_body:
        kind = one.request_headers.get("content-type", "")
        request["postData"] = {"mimeType": kind, "text": one.request_body}
    return {
        "startedDateTime": one.at.isoformat(),
        "time": one.milliseconds,
        "request": request,
        "response": {
            "status": one.status or 0,
            "statusText": one.error,
            "httpVersion": "HTTP/1.1",
            "cookies": [],
            "headers": [{"name": name, "value": value} for name, value in one.response_headers.items()],
            "content": {
                "size": len(one.response_body.encode()),
                "mimeType": one.response_headers.get("content-type", ""),
                "text": one.response_body,
            },
            "redirectURL": "",
            "headersSize": -1,
            "bodySize": -1,
        },
        "cache": {},
        "timings": {"send": 0, "wait": one.milliseconds, "receive": 0},
        "comment": " ".join(part for part in (one.service, one.agent) if part),
    }
