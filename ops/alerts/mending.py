"""What mends alerts: a test that proves a channel, and the remedy where the other side is to blame."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from ops.alerts.checks import late_messages, problem_with
from ops.alerts.outward import CHECK as HEARTBEAT
from ops.alerts.outward import host
from ops.alerts.send import tell
from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.models import AlertChannel, AlertState
from ops.registry import ServiceField


def plan(work: RepairWork) -> Plan:
    """The channels whose last attempt failed; a channel that is named is tested in any case."""
    channels = AlertChannel.objects.filter(enabled=True)
    named = str(work.params.get("channel") or "")
    if named:
        channels = channels.filter(name=named)
        if not channels.exists():
            raise RepairRefused(f"There is no channel {named} that is switched on.")
    elif work.target.startswith("alertchannel:"):
        channels = channels.filter(pk=work.target.partition(":")[2])
    wanted = [channel for channel in channels if named or problem_with(channel)]
    changes = [
        Change(f"alertchannel:{c.pk}", "test", before=c.last_error or "not tested now", after="a test arrives")
        for c in wanted
    ]
    late = late_messages()
    if late:
        changes.append(Change("alerts", "messages that nobody sent", before=late, after=0))
    if not changes:
        return Plan("Every channel took what it was last sent; nothing waits.")
    names = ", ".join(channel.name for channel in wanted)
    tests = f"A test goes to {names}. " if wanted else ""
    return Plan(
        f"{tests}What waits is then sent.", tuple(changes), data={"channels": [channel.pk for channel in wanted]}
    )


def apply(work: RepairWork) -> dict[str, Any]:
    """Send the tests, then what waits."""
    from ops.services.alerts import channel_test

    failed: list[str] = []
    arrived: list[str] = []
    for channel in AlertChannel.objects.filter(pk__in=work.plan.data["channels"]):
        message = channel_test(channel=channel, actor=work.actor)
        if message.state == AlertState.SENT:
            arrived.append(channel.name)
        else:
            failed.append(f"{channel.name}: {message.error}")
    sent = tell()
    if failed:
        raise RepairFailed(
            f"The test did not arrive. {' '.join(failed)} The guide of alerts.health says what to look at."
        )
    return {"arrived": arrived, "sent": sent}


register_repair(
    "alert.test",
    title="Send a test through the channel",
    repair_class="A",
    button="Send a test",
    explain="A test message goes to each channel whose last message did not arrive. Once it is taken, what waits is sent.",
    plan=plan,
    apply=apply,
    fields=(ServiceField("channel", "Channel", "Only this one, whether it fails or not. Empty: all that fail."),),
    target_kinds=("alertchannel",),
)


@register_guide("alerts.health")
def guide(target: str, evidence: dict[str, Any]) -> Guide:
    """Where the other side refuses: what it said, and how to try again."""
    steps = [
        GuideStep(f"{one.get('channel')} says: {one.get('reason')}")
        for one in evidence.get("channels", [])
        if isinstance(one, dict)
    ]
    names = [str(one.get("channel")) for one in evidence.get("channels", []) if isinstance(one, dict)]
    name = names[0] if names else "NAME"
    steps += [
        GuideStep(
            "A refused connection or a name that is not found: try from the machine on which the worker runs, since that sends.",
            "curl -sv --max-time 5 https://HOST-OF-THE-CHANNEL/ -o /dev/null",
        ),
        GuideStep(
            "401 or 403: the token or password was changed or revoked. Make a new one there, and enter the whole address again.",
            f"{settings.PUBLIC_URL}/admin/ops/alertchannel/",
            "text",
        ),
        GuideStep("Then send a test.", f"python manage.py alerts test '{name}'"),
    ]
    return Guide(
        "Make the channel carry alerts again",
        "The other side does not take what it is sent. Whatever is wrong meanwhile is told in the other channels only.",
        tuple(steps),
    )


@register_guide(HEARTBEAT)
def heartbeat_guide(target: str, evidence: dict[str, Any]) -> Guide:
    """The pings go to somebody else's server: what can be tried from here."""
    name = host() or "the dead-man switch"
    return Guide(
        "Make the dead-man switch hear us",
        f"{name} is pinged every {settings.HEARTBEAT_INTERVAL:g} s by the worker; when that stops, it alerts. It does not take the pings now.",
        (
            GuideStep(
                "Ping it by hand, on the machine of the worker, with the address from its settings.",
                'curl -fsS -m 10 "$HEARTBEAT_URL"',
            ),
            GuideStep(
                "404 or 410: the check was deleted there. Make a new one, put its address into the settings, and restart worker and beat.",
                f"HEARTBEAT_URL=https://{host() or 'hc-ping.com'}/…\nHEARTBEAT_INTERVAL={settings.HEARTBEAT_INTERVAL:g}",
                "ini",
                ".env",
            ),
            GuideStep("No connection: the machine of the worker needs a way out to that host, port 443."),
        ),
    )
