"""Checks of the alerts themselves: whether the channels carry them, and whether the dead-man switch hears us."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count
from django.utils import timezone

from ops.alerts import transports
from ops.alerts.outward import CHECK as HEARTBEAT
from ops.alerts.outward import host, last_ping
from ops.alerts.send import overdue
from ops.alerts.words import span
from ops.doctor.targets import register_target
from ops.models import AlertChannel, AlertMessage, AlertState
from ops.registry import Affected, CheckOutcome, Fix, register_check
from ops.secrets import SecretUnreadable
from ops.words import counted, verb

LATE = timedelta(minutes=5)

register_target("alertchannel", "ops.AlertChannel")


@register_check(
    "alerts.health",
    title="Alerts reach their channels",
    tags=("alerts",),
    interval=60,
    severity="warning",
    depends_on=("db.reachable",),
    opens_after=2,
    repairs=("alert.test",),
)
def health() -> CheckOutcome:
    """Red while a channel's last attempt failed, an address cannot be used, or messages lie about that nobody sends.

    Instead of a script that mails every five minutes: each issue is told once to each channel, reminders and the recovery follow, and
    what could not be told is seen here (entry ``alerts.health``). Without any channel there is nothing to be red about.
    """
    channels = list(AlertChannel.objects.filter(enabled=True))
    if not channels:
        return CheckOutcome("skip", "No alert channel is set up: what is wrong can be seen here, and nobody is told.")
    waiting = dict(
        AlertMessage.objects.filter(state=AlertState.QUEUED).order_by().values_list("channel").annotate(Count("pk"))
    )
    broken = [Affected(f"alertchannel:{c.pk}", *_facts(c, waiting.get(c.pk, 0))) for c in channels if problem_with(c)]
    if broken:
        first = broken[0].sentence
        more = (
            f" {counted(len(broken) - 1, 'more channel fails', 'more channels fail')} as well."
            if len(broken) > 1
            else ""
        )
        sentence = f"{first}{more} Operators are not told there; send a test once it is mended."
        names = [one.evidence for one in broken]
        return CheckOutcome("fail", sentence, {"channels": names}, tuple(broken), Fix("alert.test"))
    late = late_messages()
    if late:
        sentence = f"{counted(late, 'alert')} should have gone out {span(LATE)} ago or earlier, and nobody has sent {verb(late, 'it', 'them')}."
        return CheckOutcome("fail", sentence, {"overdue": late}, fix=Fix("alert.test"))
    evidence = {"channels": [channel.name for channel in channels], "waiting": sum(waiting.values())}
    word = "channel is" if len(channels) == 1 else "channels are"
    return CheckOutcome("pass", f"{len(channels)} {word} in order.", evidence)


def late_messages() -> int:
    """How many messages that nobody sends; 0 while there is no worker, which a check of its own says."""
    from ops.checks import HEARTBEAT_DEAD, worker_age

    age = worker_age()
    if age is None or age > HEARTBEAT_DEAD:
        return 0
    return overdue(timezone.now(), by=LATE).count()


def problem_with(channel: AlertChannel) -> str:
    """Why a channel does not work, "" when it does as far as is known."""
    if channel.last_error:
        return channel.last_error
    try:
        return transports.problem_of(channel.url)
    except SecretUnreadable as error:
        return str(error)


def _facts(channel: AlertChannel, waiting: int) -> tuple[str, dict[str, Any]]:
    reason = problem_with(channel)
    evidence = {
        "channel": channel.name,
        "reason": reason,
        "failing_since": channel.last_error_at.isoformat() if channel.last_error_at else None,
        "last_ok": channel.last_ok_at.isoformat() if channel.last_ok_at else None,
        "waiting": waiting,
    }
    return f"The channel {channel.name} does not work: {reason.rstrip('.')}.", evidence


@register_check(
    HEARTBEAT,
    title="The dead-man switch hears us",
    tags=("alerts", "network"),
    interval=60,
    severity="warning",
    depends_on=("db.reachable", "worker.alive"),
    opens_after=2,
    covers=("alerts.health",),
)
def heartbeat() -> CheckOutcome:
    """What the last ping said. The check itself pings nobody: otherwise asking for it would hide that beat stands still."""
    if not settings.HEARTBEAT_URL:
        return CheckOutcome(
            "skip", "No dead-man switch is set up (HEARTBEAT_URL): a machine that falls silent alerts nobody."
        )
    last, now = last_ping(), timezone.now()
    evidence: dict[str, Any] = {"host": host(), "interval_seconds": settings.HEARTBEAT_INTERVAL}
    if last is None:
        return CheckOutcome("pass", f"{host()} has not been pinged yet; beat does it soon.", evidence)
    evidence |= {"last_ping": last.at.isoformat(), "age_seconds": round((now - last.at).total_seconds())}
    if not last.ok:
        evidence["failing_since"] = last.since.isoformat()
        sentence = f"{last.sentence} It may soon say that this installation is down, or be blind to it."
        return CheckOutcome("fail", sentence, evidence)
    if now - last.at > timedelta(seconds=max(3 * settings.HEARTBEAT_INTERVAL, 180)):
        return CheckOutcome("fail", f"{host()} was last pinged {span(now - last.at)} ago. Does beat run?", evidence)
    return CheckOutcome("pass", f"{last.sentence} That was {span(now - last.at)} ago.", evidence)
