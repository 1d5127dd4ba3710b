"""Which web origins may use Switchboard from a browser, and which were refused lately.

An origin is ``scheme://host[:port]``. Ours (``PUBLIC_URL``) is always allowed; others are named by ``ALLOWED_ORIGINS``, which an operator
may change live. Refusals are counted by the hour, so that a wrong address in front of us is noticed before somebody complains.
"""

from __future__ import annotations

import re
import threading
import time
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from ops.live import live, register_live
from ops.services.sightings import sighting_count

KEY = "ALLOWED_ORIGINS"
SERVICE = "portal"
REFUSED = "origin"
COUNTED_FOR = timedelta(hours=24)
UNREADABLE = "something unreadable"

_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9_.-]{1,253})(:[0-9]{1,5})?\Z")
_PORTS = {"http": 80, "https": 443}
# A stranger may send any origin: neither rows nor writes grow with what they send.
_LABELS_AN_HOUR = 40
_AT_ONCE = 20
_PAUSE = 10.0


def origin_of(address: str) -> str:
    """The origin of an address, its port only where it is not the scheme's own; "" for what has none."""
    parts = urlsplit(address.strip())
    try:
        port = parts.port
    except ValueError:
        return ""
    host = (parts.hostname or "").lower()
    if parts.scheme not in _PORTS or not host:
        return ""
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (f":{port}" if port and port != _PORTS[parts.scheme] else "")


def parse_origins(value: Any) -> list[str]:
    """Origins as a list, or as text with commas. Raises ``ValueError`` with a sentence."""
    words = value if isinstance(value, list | tuple) else str(value or "").split(",")
    found = []
    for word in (str(one).strip() for one in words):
        if not word:
            continue
        origin = origin_of(word)
        if not origin or not _ORIGIN.match(origin) or urlsplit(word).path.strip("/"):
            raise ValueError(f"{word[:80]!r} is no origin; write https://chat.example.org, without a path")
        found.append(origin)
    return list(dict.fromkeys(found))


register_live(
    KEY,
    label="Origins that may use Switchboard",
    help="Web addresses (https://chat.example.org, comma-separated) besides PUBLIC_URL from which browsers may sign in, call the API and "
    "open sockets.",
    parse=parse_origins,
    default=lambda: parse_origins(list(getattr(settings, "ALLOWED_ORIGINS", []))),
)


def allowed_origins() -> list[str]:
    """``PUBLIC_URL`` and what is named besides it."""
    return list(dict.fromkeys([origin_of(settings.PUBLIC_URL), *live(KEY)]))


def is_allowed(origin: str, *, host: str = "", secure: bool = False) -> bool:
    """Whether a browser at this origin may use us. ``host`` is the one that the request was sent to (a page of our own: same origin)."""
    known = origin_of(origin)
    if not known or known != origin.strip().lower().rstrip("/"):
        return False
    return known in allowed_origins() or (
        bool(host) and known == origin_of(f"{'https' if secure else 'http'}://{host}")
    )


class _Tally:
    """Refusals of this process that are not written down yet, by origin."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hour = 0
        self._seen: dict[str, list[float]] = {}

    def take(self, label: str) -> tuple[str, int]:
        """(label, how many to write down now); 0: they wait for the next one."""
        now = time.monotonic()
        with self._lock:
            hour = int(time.time() // 3600)
            if hour != self._hour:
                self._hour, self._seen = hour, {}
            if label not in self._seen and len(self._seen) >= _LABELS_AN_HOUR:
                label = UNREADABLE
            # written so far, waiting, when it was last written
            row = self._seen.setdefault(label, [0.0, 0.0, 0.0])
            row[1] += 1
            if row[0] >= _AT_ONCE and now - row[2] < _PAUSE:
                return label, 0
            times = int(row[1])
            row[0], row[1], row[2] = row[0] + times, 0.0, now
            return label, times


_tally = _Tally()


def note_refused(origin: str, *, place: str = "") -> None:
    """Count an origin that was refused. ``place`` is the path that it asked for. Never raises."""
    known = origin_of(origin)
    readable = known if known and _ORIGIN.match(known) and len(known) <= 140 else UNREADABLE
    label, times = _tally.take(readable)
    if times:
        sighting_count(service=SERVICE, kind=REFUSED, label=label, sample=place.partition("?")[0][:200], times=times)
