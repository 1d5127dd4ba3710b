"""``auth.invite_invalid``: somebody could not join by an invitation that we made. ``auth.invite_timezone``: codes made from dates, clocks that
are wrong. ``invite.issue`` makes an invitation count again, and ends the codes made from dates."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from django.db.models import Count, Max
from django.utils import timezone

from chat.access.registration import DAILY_KEY, daily_code_allowed, mode
from chat.models import AccessAttempt, AttemptKind, Invite
from chat.services.invites import invite_extend, invite_revoke, invite_unrevoke
from ops.doctor.repairs import Change, Plan, RepairRefused, RepairWork, register_repair
from ops.live import live_clear, live_row, live_set
from ops.network.places import places
from ops.registry import Affected, CheckOutcome, Fix, ServiceField, register_check
from ops.words import counted, verb

LOOKED_BACK = timedelta(hours=24)
WORDS = {"expired": "expired", "used_up": "is used up", "revoked": "was revoked"}
DAILY_TARGET = f"setting:{DAILY_KEY}"
# Clocks of machines that are kept in time differ by less.
SKEW_SECONDS = 90.0
_ASKED = 4


@register_check(
    "auth.invite_invalid",
    title="Whoever was invited can join",
    tags=("portal", "people"),
    interval=60,
    severity="error",
    depends_on=("db.reachable",),
    repairs=("invite.issue",),
)
def invite_invalid() -> CheckOutcome:
    """Invitations of ours with which somebody tried to join within a day and could not, and that still do not count.

    Codes that nobody knows are counted as well; they turn nothing red, since guesses look the same.
    """
    since = timezone.now() - LOOKED_BACK
    refused = AccessAttempt.objects.filter(kind=AttemptKind.INVITE, at__gt=since).exclude(outcome="ok")
    tried = (
        refused.filter(invite__isnull=False)
        .order_by()
        .values("invite")
        .annotate(times=Count("pk"), last=Max("at"))[:500]
    )
    times = {row["invite"]: (row["times"], row["last"]) for row in tried}
    reasons = dict(refused.order_by().values_list("outcome").annotate(Count("pk")))
    evidence: dict[str, Any] = {"refused": reasons, "registration": mode()}
    rows = [one for one in Invite.objects.filter(pk__in=times) if one.state() != "open"]
    if not rows:
        unknown = reasons.get("not_found", 0) + reasons.get("invalid", 0)
        more = f" {counted(unknown, 'attempt')} with a code that nobody knows." if unknown else ""
        return CheckOutcome("pass", f"Nobody was turned away with an invitation of ours.{more}", evidence)
    first = max(rows, key=lambda one: times[one.pk][1])
    evidence["invites"] = [
        {"id": one.pk, "begins": one.hint, "state": one.state(), "times": times[one.pk][0]} for one in rows[:20]
    ]
    more = f" So it is with {counted(len(rows) - 1, 'other')}." if len(rows) > 1 else ""
    return CheckOutcome(
        "fail",
        f"{counted(times[first.pk][0], 'attempt')} to join by {first} failed: it {WORDS[first.state()]}. "
        f"Let it count again, or make another.{more}",
        evidence,
        tuple(Affected(f"invite:{one.pk}", f"{one} {WORDS[one.state()]}.") for one in rows),
        Fix("invite.issue", f"invite:{first.pk}" if len(rows) == 1 else ""),
    )


@register_check(
    "auth.invite_timezone",
    title="Invitations do not depend on the date",
    tags=("portal", "people"),
    interval=3600,
    severity="warning",
    timeout=20,
    depends_on=("db.reachable",),
    repairs=("invite.issue",),
)
def invite_timezone() -> CheckOutcome:
    """Amber while Portagent's code of the day is allowed; red when our clock differs from that of the servers that we use."""
    skews = clock_skews()
    evidence: dict[str, Any] = {
        "daily_code": daily_code_allowed(),
        "skew_seconds": skews,
        "now": timezone.now().isoformat(timespec="seconds"),
    }
    worst = sorted(skews.values(), key=abs)[len(skews) // 2] if skews else 0.0
    if abs(worst) > SKEW_SECONDS:
        return CheckOutcome(
            "fail",
            f"The clock of this machine is {abs(worst):.0f} s {'ahead of' if worst > 0 else 'behind'} that of the servers that it talks to. "
            "Codes, tokens and invitations end at the wrong time. Let the machine keep time (systemd-timesyncd, chrony).",
            evidence,
            fix=Fix("health.recheck"),
        )
    if daily_code_allowed():
        return CheckOutcome(
            "warn",
            "Portagent's code of the day is allowed: anybody who knows how it is made can join. Give stored invitations instead, "
            "and switch it off.",
            evidence,
            fix=Fix("invite.issue", DAILY_TARGET),
        )
    return CheckOutcome("pass", "Invitations are stored; none is made from the date.", evidence)


def clock_skews() -> dict[str, float]:
    """Seconds by which our clock is ahead of each server's that says what time it has; a few are asked, side by side."""
    asked = [one for name, one in places().items() if one.url and one.pk][:_ASKED]
    if not asked:
        return {}
    with ThreadPoolExecutor(max_workers=len(asked)) as pool:
        found = list(pool.map(lambda one: _skew(one.url, one.proxy), asked))
    return {one.name: round(skew, 1) for one, skew in zip(asked, found, strict=True) if skew is not None}


def _skew(url: str, proxy: str) -> float | None:
    try:
        with httpx.Client(timeout=3.0, trust_env=False, proxy=proxy or None) as client:
            before = datetime.now(UTC)
            answer = client.head(url)
            after = datetime.now(UTC)
        told = parsedate_to_datetime(answer.headers["date"])
    except (httpx.HTTPError, KeyError, ValueError, TypeError):
        return None
    # The header has whole seconds, and the answer took its way.
    slack = 1.0 + (after - before).total_seconds()
    skew = (before - told).total_seconds()
    return 0.0 if abs(skew) <= slack else skew


# The repair


def plan(work: RepairWork) -> Plan:
    """Which invitations count again, and how; or that the code of the day ends."""
    if work.target == DAILY_TARGET:
        return _plan_daily()
    days, uses = _number(work, "days", 7), _number(work, "uses", 1)
    rows = list(_rows(work))
    steps: list[dict[str, Any]] = []
    changes: list[Change] = []
    kept: list[dict[str, Any]] = []
    now = timezone.now()
    for row in rows:
        if row.state() == "open":
            continue
        target = f"invite:{row.pk}"
        step: dict[str, Any] = {"invite": row.pk}
        if row.revoked_at is not None:
            step["bring_back"] = True
            changes.append(Change(target, "revoked", row.revoked_at.isoformat(timespec="seconds"), None))
        if row.expires_at is not None and row.expires_at <= now:
            step["days"] = days
            changes.append(
                Change(
                    target, "expires", row.expires_at.isoformat(timespec="seconds"), f"{counted(days, 'day')} from now"
                )
            )
        if row.max_uses is not None and row.uses >= row.max_uses:
            step["max_uses"] = row.uses + uses
            changes.append(Change(target, "uses", f"{row.uses} of {row.max_uses}", f"{row.uses} of {row.uses + uses}"))
        steps.append(step)
        kept.append(
            {
                "invite": row.pk,
                "revoked": row.revoked_at is not None,
                "expires_at": row.expires_at.isoformat() if row.expires_at else None,
                "max_uses": row.max_uses,
            }
        )
    if not steps:
        return Plan("Every invitation that somebody tried counts.")
    return Plan(
        f"{counted(len(steps), 'invitation counts', 'invitations count')} again; {verb(len(steps), 'its link stays', 'their links stay')} as before.",
        tuple(changes),
        {"steps": steps},
        {"invites": kept},
    )


def _plan_daily() -> Plan:
    if not daily_code_allowed():
        return Plan("Portagent's code of the day is off.")
    row = live_row(DAILY_KEY)
    return Plan(
        "Portagent's code of the day no longer opens the door, at once and in every process. Make stored invitations for whoever still is to join.",
        (Change(DAILY_TARGET, "allowed", True, False),),
        {"daily": True},
        {"daily": {"had": row is not None}},
    )


def _rows(work: RepairWork) -> Iterable[Invite]:
    targets = [work.target] if work.target else list(work.affected)
    keys = [key for kind, _, key in (one.partition(":") for one in targets) if kind == "invite" and key.isdigit()]
    if work.target and not keys:
        raise RepairRefused(
            "Name an invitation: invite:ID. New ones are made on the page of invitations, or by manage.py invite create."
        )
    rows = list(Invite.objects.filter(pk__in=keys))
    if work.target and not rows:
        raise RepairRefused(f"There is no invitation {keys[0]}.")
    return rows


def _number(work: RepairWork, name: str, default: int) -> int:
    text = str(work.params.get(name) or default)
    if not text.isdigit() or not 1 <= int(text) <= 3650:
        raise RepairRefused(f"{name} is a whole number from 1 on.")
    return int(text)


def apply(work: RepairWork) -> dict[str, Any]:
    """As the buttons on the page of the invitation."""
    if work.plan.data.get("daily"):
        live_set(key=DAILY_KEY, value=False, actor=work.actor)
        return {"daily_code": False}
    for step in work.plan.data["steps"]:
        row = Invite.objects.get(pk=step["invite"])
        if step.get("bring_back"):
            invite_unrevoke(invite=row, actor=work.actor)
        changed: dict[str, Any] = {}
        if "days" in step:
            changed["expires_at"] = timezone.now() + timedelta(days=step["days"])
        if "max_uses" in step:
            changed["max_uses"] = step["max_uses"]
        if changed:
            invite_extend(invite=row, actor=work.actor, **changed)
    return {"invites": [step["invite"] for step in work.plan.data["steps"]]}


def undo(work: RepairWork) -> None:
    """Back to what they were worth."""
    if "daily" in work.snapshot:
        if work.snapshot["daily"]["had"]:
            live_set(key=DAILY_KEY, value=True, actor=work.actor)
        else:
            live_clear(key=DAILY_KEY, actor=work.actor)
        return
    for kept in work.snapshot["invites"]:
        row = Invite.objects.filter(pk=kept["invite"]).first()
        if row is None:
            continue
        Invite.objects.filter(pk=row.pk).update(
            expires_at=datetime.fromisoformat(kept["expires_at"]) if kept["expires_at"] else None,
            max_uses=kept["max_uses"],
        )
        if kept["revoked"]:
            invite_revoke(invite=row, actor=work.actor)


register_repair(
    "invite.issue",
    title="Let invitations count again",
    repair_class="C",
    button="Let it count again",
    explain="Brings a revoked invitation back, gives an expired one more days and a used-up one more uses; the same link works again. For "
    "Portagent's code of the day: switches it off.",
    plan=plan,
    apply=apply,
    undo=undo,
    fields=(
        ServiceField("days", "Days from now", "For what has expired.", kind="number", default=7),
        ServiceField("uses", "Further uses", "For what is used up.", kind="number", default=1),
    ),
    target_kinds=("invite",),
)
