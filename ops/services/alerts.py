"""Writes who is told of issues, and when nobody is: channels, tests, maintenance."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, time
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from ops.alerts import transports, words
from ops.alerts.send import send_one
from ops.findings import SEVERITIES
from ops.models import AlertChannel, AlertKind, AlertMessage, AlertState, MaintenanceWindow
from ops.registry import all_checks
from ops.services import audit

_SHOWN = (
    *("name", "enabled", "min_severity", "only_checks", "tell_recovery", "remind_every_minutes"),
    *("quiet_from", "quiet_to", "timezone"),
)
_MOST_MINUTES = 60 * 24 * 30


def channel_save(
    *,
    actor: str,
    channel: AlertChannel | None = None,
    name: str,
    url: str | None = None,
    enabled: bool = True,
    min_severity: str = "warning",
    only_checks: Sequence[str] = (),
    tell_recovery: bool = True,
    remind_every_minutes: int = 240,
    quiet_from: time | None = None,
    quiet_to: time | None = None,
    timezone: str = "UTC",
) -> AlertChannel:
    """Create a channel or change one; writes nothing when nothing changes. ``url`` None keeps the stored address.

    Raises ``ValidationError`` with one entry a field.
    """
    new: dict[str, Any] = {
        "name": name.strip(),
        "enabled": enabled,
        "min_severity": min_severity,
        "only_checks": sorted({one.strip() for one in only_checks if one.strip()}),
        "tell_recovery": tell_recovery,
        "remind_every_minutes": remind_every_minutes,
        "quiet_from": quiet_from,
        "quiet_to": quiet_to,
        "timezone": timezone.strip() or "UTC",
    }
    url = url.strip() if url is not None else None
    _validate(channel, new, url)
    with transaction.atomic():
        row = AlertChannel.objects.select_for_update().get(pk=channel.pk) if channel is not None else AlertChannel()
        fresh = row.pk is None
        before = {} if fresh else {name: getattr(row, name) for name in _SHOWN}
        if not fresh and before == new and url is None:
            return row
        for field, value in new.items():
            setattr(row, field, value)
        if url is not None:
            row.url, row.last_error = url, ""
        row.save()
        old, after = audit.changes(before, new)
        if url is not None:
            after["address_changed"] = True
        action = "alertchannel.created" if fresh else "alertchannel.changed"
        audit.record(actor=actor, action=action, target=row, before=old, after=after)
    return row


def channel_switch(*, channel: AlertChannel, enabled: bool, actor: str) -> None:
    """Switch a channel on or off. What waits in one that is off stays there until it is on again."""
    with transaction.atomic():
        if AlertChannel.objects.filter(pk=channel.pk).exclude(enabled=enabled).update(enabled=enabled):
            action = f"alertchannel.switched_{'on' if enabled else 'off'}"
            audit.record(actor=actor, action=action, target=channel)
    channel.enabled = enabled


def channel_delete(*, channel: AlertChannel, actor: str) -> None:
    """Remove a channel and the log of what it was told."""
    with transaction.atomic():
        before = {name: getattr(channel, name) for name in _SHOWN}
        audit.record(actor=actor, action="alertchannel.deleted", target=channel, before=before)
        channel.delete()


def channel_test(*, channel: AlertChannel, actor: str) -> AlertMessage:
    """Send a test now, in this process, once; the message says how that went (``sent`` or ``failed`` with the reason).

    A test that arrives also makes what waits for another attempt due at once.
    """
    title, body = words.test_words(channel.name, actor)
    message = AlertMessage.objects.create(
        channel=channel, kind=AlertKind.TEST, key=f"test:{channel.pk}:{uuid.uuid4().hex}", title=title, body=body,
        due_at=timezone.now(),
    )  # fmt: skip
    send_one(message, channel)
    if message.state == AlertState.SENT:
        waiting = AlertMessage.objects.filter(channel=channel, state=AlertState.QUEUED, attempts__gt=0)
        waiting.exclude(error="").update(due_at=timezone.now())
    audit.record(
        actor=actor, action="alertchannel.tested", target=channel, message=message.error, after={"state": message.state}
    )
    return message


def message_retry(*, message: AlertMessage, actor: str) -> bool:
    """Give a failed message its attempts again. False when it has not failed."""
    with transaction.atomic():
        changed = AlertMessage.objects.filter(pk=message.pk, state=AlertState.FAILED).update(
            state=AlertState.QUEUED, attempts=0, due_at=timezone.now()
        )
        if changed:
            audit.record(actor=actor, action="alertmessage.retried", target=message)
    message.refresh_from_db()
    return bool(changed)


def maintenance_start(
    *, actor: str, ends_at: datetime, reason: str, starts_at: datetime | None = None, checks: Sequence[str] = ()
) -> MaintenanceWindow:
    """Announce a time in which nobody is told of ``checks`` (ids or patterns; empty: of any). Raises ``ValidationError``."""
    now = timezone.now()
    starts_at = starts_at or now
    problems: dict[str, list[str]] = {}
    if not reason.strip():
        problems["reason"] = ["Say why, for whoever wonders about the silence."]
    if len(reason.strip()) > 300:
        problems["reason"] = ["A reason has at most 300 characters."]
    if ends_at <= starts_at:
        problems["ends_at"] = ["It has to end after it begins."]
    elif ends_at <= now:
        problems["ends_at"] = ["It would have ended already."]
    wanted = sorted({one.strip() for one in checks if one.strip()})
    if wrong := _unknown(wanted):
        problems["checks"] = [wrong]
    if problems:
        raise ValidationError(problems)
    with transaction.atomic():
        window = MaintenanceWindow.objects.create(
            starts_at=starts_at, ends_at=ends_at, reason=reason.strip(), checks=wanted, created_by=actor[:255]
        )
        audit.record(
            actor=actor, action="maintenance.announced", target=window, message=window.reason,
            after={"starts_at": starts_at, "ends_at": ends_at, "checks": wanted},
        )  # fmt: skip
    return window


def maintenance_end(*, window: MaintenanceWindow, actor: str) -> bool:
    """End a window now, or take back one that has not begun. False when it is over already."""
    now = timezone.now()
    if window.ends_at <= now:
        return False
    with transaction.atomic():
        audit.record(actor=actor, action="maintenance.ended", target=window, message=window.reason)
        if window.starts_at >= now:
            window.delete()
        else:
            MaintenanceWindow.objects.filter(pk=window.pk).update(ends_at=now)
            window.ends_at = now
    return True


def _validate(channel: AlertChannel | None, new: dict[str, Any], url: str | None) -> None:
    problems: dict[str, list[str]] = {}
    name = new["name"]
    if not name or len(name) > 100:
        problems["name"] = ["A name has 1 to 100 characters."]
    elif AlertChannel.objects.filter(name=name).exclude(pk=channel.pk if channel is not None else 0).exists():
        problems["name"] = [f"There is a channel named {name} already."]
    if url is None and channel is None:
        problems["url"] = ["An address is missing, for example mailto://user:password@example.org."]
    elif url is not None and (wrong := transports.problem_of(url)):
        problems["url"] = [wrong]
    if new["min_severity"] not in SEVERITIES:
        problems["min_severity"] = [f"One of {', '.join(SEVERITIES)}."]
    if wrong := _unknown(new["only_checks"]):
        problems["only_checks"] = [wrong]
    if not 0 <= new["remind_every_minutes"] <= _MOST_MINUTES:
        problems["remind_every_minutes"] = [f"0 (never) to {_MOST_MINUTES} minutes."]
    if (new["quiet_from"] is None) != (new["quiet_to"] is None):
        problems["quiet_to"] = ["Quiet hours have a beginning and an end; give both or neither."]
    try:
        ZoneInfo(new["timezone"])
    except (ZoneInfoNotFoundError, ValueError, OSError):
        problems["timezone"] = ["Not a time zone; one looks like Europe/Berlin."]
    if problems:
        raise ValidationError(problems)


def _unknown(patterns: Sequence[str]) -> str:
    from ops.alerts.rules import matches

    ids = [check.id for check in all_checks()]
    for pattern in patterns:
        if not any(matches(id, [pattern]) for id in ids):
            return f"No check is called {pattern}. Give ids of checks, or patterns like matrix.*."
    return ""
