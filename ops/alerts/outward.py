"""The dead-man switch: somebody outside is pinged, and says so when the pings stop. So silence of the whole machine alerts too.

The protocol is that of healthchecks.io and its kin: a request to the address means "all is well", one to ``<address>/fail`` "it
is not". What the last ping said is kept as the newest result of the target ``ping`` of the check ``alerts.heartbeat``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit, urlunsplit

import httpx
from django.conf import settings
from django.utils import timezone

from ops.alerts.queue import silenced_by
from ops.choices import ASKING_ISSUE_STATES, CheckStatus
from ops.logs import get_logger
from ops.models import CheckResult, Issue, MaintenanceWindow
from ops.redaction import redact_text

logger = get_logger(__name__)

CHECK = "alerts.heartbeat"
TARGET = "ping"
TIMEOUT = httpx.Timeout(5.0, connect=3.0)


@dataclass(frozen=True, slots=True)
class LastPing:
    """How the last ping went, and since when they go like that."""

    ok: bool
    sentence: str
    at: datetime
    since: datetime


def host() -> str:
    """Whom we ping, without the part of the address that is a secret; "" when nobody."""
    return urlsplit(settings.HEARTBEAT_URL).hostname or "" if settings.HEARTBEAT_URL else ""


def ping(now: datetime | None = None) -> LastPing | None:
    """Ping once; never raises and takes at most a few seconds. None: no address is set."""
    if not settings.HEARTBEAT_URL:
        return None
    now = now or timezone.now()
    bad, reason = _state()
    started = time.monotonic()
    try:
        answer = httpx.post(_address(fail=bad), content=reason.encode(), timeout=TIMEOUT, follow_redirects=True)
        ok = answer.is_success
        sentence = f"{host()} took the ping." if ok else f"{host()} answered a ping with {answer.status_code}."
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        ok, sentence = False, f"{host()} could not be pinged ({type(error).__name__}: {redact_text(str(error))})."
    sentence = " ".join(sentence.split())[:500]
    if not ok:
        logger.warning("heartbeat_ping_failed", sentence=sentence)
    try:
        _note(ok, sentence, round((time.monotonic() - started) * 1000), now)
    except Exception:
        # The ping itself matters more than our note of it.
        logger.warning("heartbeat_ping_not_noted", exc_info=True)
    return LastPing(ok, sentence, now, now)


def last_ping() -> LastPing | None:
    """What is noted of the last ping; None when none was ever made."""
    rows = list(CheckResult.objects.filter(check_id=CHECK, target=TARGET).order_by("-id")[:1])
    if not rows:
        return None
    row = rows[0]
    before = CheckResult.objects.filter(check_id=CHECK, target=TARGET, id__lt=row.pk).exclude(status=row.status)
    since = before.order_by("-id").values_list("at", flat=True).first()
    return LastPing(row.status == CheckStatus.PASS, row.sentence, row.at, since or row.at)


def _state() -> tuple[bool, str]:
    """Whether something critical is wrong that is to be told, and what."""
    now = timezone.now()
    try:
        windows = list(MaintenanceWindow.objects.filter(starts_at__lte=now, ends_at__gt=now))
        asking = Issue.objects.filter(state__in=ASKING_ISSUE_STATES, severity="critical", status=CheckStatus.FAIL)
        titles = [
            f"{check}: {sentence}"
            for check, sentence in asking.order_by("pk").values_list("check_id", "sentence")[:50]
            if silenced_by(windows, check) is None
        ]
    except Exception as error:
        return True, f"The database does not answer ({type(error).__name__})."
    return bool(titles), "\n".join(titles)


def _address(*, fail: bool) -> str:
    if not fail:
        return str(settings.HEARTBEAT_URL)
    parts = urlsplit(settings.HEARTBEAT_URL)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/fail"))


def _note(ok: bool, sentence: str, milliseconds: int, now: datetime) -> None:
    status = CheckStatus.PASS if ok else CheckStatus.FAIL
    newest = CheckResult.objects.filter(check_id=CHECK, target=TARGET).order_by("-id").first()
    if newest is not None and newest.status == status and newest.sentence == sentence:
        # One row for as long as it goes like this: a ping a minute would fill the history.
        CheckResult.objects.filter(pk=newest.pk).update(at=now, duration_ms=milliseconds)
        return
    CheckResult.objects.create(
        check_id=CHECK, target=TARGET, status=status, sentence=sentence, duration_ms=milliseconds, changed=True, at=now
    )
