"""Sends what is queued: each message is claimed by one conditional UPDATE, so that of several processes one sends it.

A claim lasts ``CLAIM`` seconds; the message of a process that died while it sent is due again after that. Between the other
side's "taken" and our note of it lies a moment in which a killed process makes the next one send again: receivers see the same
reference at the end of the text, and the homeserver the same transaction id, of which it makes one event.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from django.db import connections, models, transaction
from django.utils import timezone

from ops.alerts import transports, words
from ops.alerts.queue import ABOUT_CHANNELS, IN_DIGEST, queue_news, silenced_by
from ops.alerts.transports import Envelope, NotSent
from ops.logs import bind, get_logger
from ops.models import AlertChannel, AlertKind, AlertMessage, AlertState, MaintenanceWindow
from ops.redaction import redact_text
from ops.secrets import SecretUnreadable

logger = get_logger(__name__)

CLAIM = timedelta(seconds=90)
# Waits between attempts, in seconds; after the last the message has failed. The issue's reminder tries again.
BACKOFF = (15, 30, 60, 120, 300, 600, 1200, 1800)
_AT_ONCE = 4
_BATCH = 50


def tell(now: datetime | None = None) -> int:
    """Queue what is new, make digests of what was held, send what is due. Returns how many messages were sent."""
    now = now or timezone.now()
    queue_news(now)
    make_digests(now)
    return send_due(now)


def make_digests(now: datetime | None = None) -> int:
    """One message for all that was held for a channel and is due; returns how many digests were made."""
    now = now or timezone.now()
    made = 0
    held = AlertMessage.objects.filter(state=AlertState.HELD, due_at__lte=now, channel__enabled=True)
    for channel_id in held.order_by().values_list("channel_id", flat=True).distinct():
        with transaction.atomic():
            rows = list(
                held.filter(channel_id=channel_id)
                .select_related("issue")
                .select_for_update(of=("self",))
                .order_by("pk")
            )
            if not rows:
                continue
            title, body = words.digest(rows)
            digest, fresh = AlertMessage.objects.get_or_create(
                key=f"digest:{channel_id}:{rows[0].pk}",
                defaults={
                    "channel_id": channel_id, "kind": AlertKind.DIGEST, "title": title, "body": body, "due_at": now,
                },
            )  # fmt: skip
            AlertMessage.objects.filter(pk__in=[row.pk for row in rows], state=AlertState.HELD).update(
                state=AlertState.SUPPRESSED, error=f"{IN_DIGEST}{digest.pk}."
            )
            made += fresh
    return made


def send_due(now: datetime | None = None) -> int:
    """Send what is due, channels side by side, the messages of one in order. Returns how many were sent."""
    now = now or timezone.now()
    due = AlertMessage.objects.filter(state=AlertState.QUEUED, due_at__lte=now, channel__enabled=True)
    channels = list(due.order_by().values_list("channel_id", flat=True).distinct())
    if len(channels) <= 1:
        return sum(_send_channel(pk, now) for pk in channels)
    with ThreadPoolExecutor(min(_AT_ONCE, len(channels)), thread_name_prefix="alerts") as pool:
        return sum(pool.map(lambda pk: _in_thread(pk, now), channels))


def _in_thread(channel_id: int, now: datetime) -> int:
    try:
        return _send_channel(channel_id, now)
    except Exception:
        logger.exception("alerts_channel_failed", channel=channel_id)
        return 0
    finally:
        connections.close_all()


def _send_channel(channel_id: int, now: datetime) -> int:
    channel = AlertChannel.objects.filter(pk=channel_id, enabled=True).first()
    if channel is None:
        return 0
    sent = 0
    for message in _due_of(channel, now):
        if not send_one(message, channel, now=now):
            # What comes after it would fail as well, and has to come after it.
            break
        sent += message.state == AlertState.SENT
    return sent


def _due_of(channel: AlertChannel, now: datetime) -> Iterable[AlertMessage]:
    """In order, up to the first that waits for its next attempt: news of one channel do not overtake each other."""
    rows = AlertMessage.objects.filter(channel=channel, state=AlertState.QUEUED).select_related("issue__root")
    for message in rows.order_by("pk")[:_BATCH]:
        if message.due_at > now:
            return
        yield message


def send_one(message: AlertMessage, channel: AlertChannel, *, now: datetime | None = None) -> bool:
    """Claim and send one message. False: it was not sent, and will be tried again or has failed.

    One that must no longer be told (maintenance began, a root cause was found) is kept back, which counts as settled.
    """
    now = now or timezone.now()
    if _keep_back(message, now):
        return True
    claimed = AlertMessage.objects.filter(
        pk=message.pk, state=AlertState.QUEUED, attempts=message.attempts, due_at=message.due_at
    ).update(attempts=message.attempts + 1, due_at=now + CLAIM)
    if not claimed:
        # Another process sends it.
        message.refresh_from_db()
        return message.state == AlertState.SENT
    message.attempts += 1
    reference = words.reference(message.key)
    with bind(alert=message.pk, channel=channel.name):
        try:
            envelope = Envelope(message.title, f"{message.body}\nRef: {reference}", message.key, words.tone_of(message))
            transports.deliver(channel.url, envelope)
        except (NotSent, SecretUnreadable) as error:
            _failed(message, channel, str(error))
            return False
        except Exception as error:
            logger.exception("alert_not_sent")
            _failed(message, channel, f"{type(error).__name__}: {error}")
            return False
    done = timezone.now()
    AlertMessage.objects.filter(pk=message.pk, attempts=message.attempts).update(
        state=AlertState.SENT, sent_at=done, error=""
    )
    AlertChannel.objects.filter(pk=channel.pk).update(last_ok_at=done, last_error="")
    message.state, message.sent_at, message.error = AlertState.SENT, done, ""
    channel.last_ok_at, channel.last_error = done, ""
    return True


def _keep_back(message: AlertMessage, now: datetime) -> bool:
    """Whether it must not be told now after all, although it was queued a moment ago; it is then settled."""
    issue = message.issue
    if issue is None or message.kind not in (AlertKind.OPENED, AlertKind.REMINDER):
        return False
    windows = MaintenanceWindow.objects.filter(starts_at__lte=now, ends_at__gt=now)
    window = silenced_by(windows, issue.check_id)
    if window is not None:
        why = f"Maintenance: {window.reason}"
    elif issue.root is not None and issue.root.is_open:
        why = "It follows from another issue, which is told instead."
    elif issue.check_id == ABOUT_CHANNELS and message.attempts:
        why = "A channel is not told of its own silence."
    else:
        return False
    # The key goes with it: should it still be so afterwards, it is told then.
    changed = AlertMessage.objects.filter(pk=message.pk, state=AlertState.QUEUED, attempts=message.attempts).update(
        state=AlertState.SUPPRESSED, error=why[:500], key=f"kept:{message.pk}:{message.key}"[:200]
    )
    if changed:
        message.state, message.error = AlertState.SUPPRESSED, why
    return True


def _failed(message: AlertMessage, channel: AlertChannel, reason: str) -> None:
    sentence = " ".join(redact_text(reason).split())[:500]
    now = timezone.now()
    final = message.kind == AlertKind.TEST or message.attempts > len(BACKOFF)
    fields = {"state": AlertState.FAILED} if final else {}
    wait = BACKOFF[min(message.attempts, len(BACKOFF)) - 1]
    AlertMessage.objects.filter(pk=message.pk, attempts=message.attempts).update(
        error=sentence, due_at=now + timedelta(seconds=wait), **fields
    )
    AlertChannel.objects.filter(pk=channel.pk).update(last_error=sentence, last_error_at=now)
    message.error = sentence
    if final:
        message.state = AlertState.FAILED
    channel.last_error, channel.last_error_at = sentence, now
    logger.warning("alert_failed", attempt=message.attempts, final=final, reason=sentence)


def overdue(now: datetime, *, by: timedelta) -> models.QuerySet[AlertMessage]:
    """Messages that should have gone out and that nobody has tried: the sender itself stands still."""
    return AlertMessage.objects.filter(
        state=AlertState.QUEUED, due_at__lt=now - by, attempts=0, channel__enabled=True, channel__last_error=""
    )
