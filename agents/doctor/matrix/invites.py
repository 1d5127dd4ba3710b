"""Invitations that the homeserver refuses again and again, and what ends that."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from agents.doctor.matrix.common import key_of, opened
from agents.matrix.errors import HomeserverUnreachable, MatrixError, TokenRefused
from agents.models import Invitation
from agents.services.invitations import (
    BREAKS_AT,
    invitation_look,
    invitation_mend,
    invitation_restore,
    open_pauses,
    stuck_invitations,
)
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.registry import Affected, CheckOutcome, register_check
from ops.words import counted

# Each costs a request or two; the rest comes with the next click.
AT_ONCE = 200
_OUTCOMES = {
    "there": "settled: they are there",
    "left": "given up: they left",
    "banned": "given up: they are banned",
    "enter": "invited, after the inviter is back in the room",
    "invite": "invited",
}


@register_check(
    "matrix.invite_loop",
    title="Invitations are not refused again and again",
    tags=("matrix", "agents"),
    interval=120,
    severity="error",
    depends_on=("db.reachable",),
    repairs=("room.repair_membership",),
)
def invite_loop() -> CheckOutcome:
    """Red when an invitation was refused three times or more. Looks at rows only.

    The breaker is open from the first refusal on: each further try waits twice as long, at most a day, and nothing else waits for it.
    """
    rows = stuck_invitations()
    total = rows.count()
    if not total:
        return CheckOutcome("pass", "No invitation is refused again and again.")
    shown: list[dict[str, Any]] = []
    affected: dict[str, Affected] = {}
    found = rows.order_by("-attempts", "pk").values_list(
        "room_id", "room__name", "room__alias", "user_id", "attempts", "not_before", "error"
    )
    for room, name, alias, person, attempts, not_before, error in found.iterator(chunk_size=2000):
        place = name or alias or f"room {room}"
        if len(shown) < 20:
            waits = timezone.localtime(not_before).strftime("%d %b %H:%M") if not_before else ""
            shown.append({"room": place, "user_id": person, "attempts": attempts, "next": waits, "error": error[:200]})
        affected.setdefault(
            f"room:{room}",
            Affected(f"room:{room}", f"{person} is refused ({counted(attempts, 'time')}): {error[:200]}"),
        )
    first = shown[0]
    return CheckOutcome(
        "fail",
        f"{counted(total, 'invitation is', 'invitations are')} refused again and again. "
        f"First: {first['user_id']} to {first['room']}, {counted(first['attempts'], 'time')}: "
        f"{first['error']} It is tried ever more rarely and holds nothing up. Mend the membership, or give the invitation up.",
        {
            "count": total,
            "breaks_at": BREAKS_AT,
            "invitations": shown,
            "paused_people": [
                {
                    "user_id": one.user_id,
                    "refusals": one.failures,
                    "until": one.until.isoformat() if one.until else None,
                }
                for one in open_pauses()[:50]
            ],
        },
        tuple(affected.values()),
    )


def _stuck(work: RepairWork) -> list[Invitation]:
    rows = stuck_invitations()
    room, mapping, agent = key_of(work.target, "room"), key_of(work.target, "mapping"), key_of(work.target, "agent")
    if room is not None:
        rows = rows.filter(room_id=room)
    elif mapping is not None:
        rows = rows.filter(room__mapping__pk=mapping)
    elif agent is not None:
        rows = rows.filter(room__mapping__agent_id=agent)
    return list(rows.select_related("room__mapping__account", "room__homeserver").order_by("pk")[:AT_ONCE])


def _plan(work: RepairWork) -> Plan:
    stuck = _stuck(work)
    if not stuck:
        return Plan("No invitation is refused again and again.")
    homeserver = opened(stuck[0].room.homeserver.name)
    changes, kept = [], {}
    for invitation in stuck:
        try:
            found = invitation_look(homeserver, invitation)
        except MatrixError as error:
            raise RepairRefused(error.sentence) from error
        changes.append(
            Change(
                f"room:{invitation.room_id}",
                f"invitation of {invitation.user_id}",
                f"refused {counted(invitation.attempts, 'time')}: {found.sentence}",
                _OUTCOMES[found.way],
            )
        )
        kept[str(invitation.pk)] = {
            "state": invitation.state,
            "attempts": invitation.attempts,
            "error": invitation.error,
        }
    return Plan(
        f"Mend or give up {counted(len(changes), 'invitation')}: the inviter comes back into the room where it is not in it, and whoever left or "
        "is banned is not invited any more.",
        tuple(changes),
        {"invitations": [int(key) for key in kept]},
        {"invitations": kept},
    )


def _apply(work: RepairWork) -> dict[str, Any]:
    done: dict[str, str] = {}
    failed: dict[str, str] = {}
    wanted = work.plan.data["invitations"]
    rows = Invitation.objects.filter(pk__in=wanted).select_related("room__mapping__account", "room__homeserver")
    for number, invitation in enumerate(rows.order_by("pk"), start=1):
        homeserver = opened(invitation.room.homeserver.name)
        name = f"{invitation.user_id} → {invitation.room}"
        try:
            done[name] = invitation_mend(homeserver=homeserver, invitation=invitation, actor=work.actor)
        except (HomeserverUnreachable, TokenRefused) as error:
            raise RepairFailed(error.sentence) from error
        except MatrixError as error:
            failed[name] = error.sentence
        work.progress(number, len(wanted), name)
    if failed and not done:
        raise RepairFailed(f"None could be mended. {next(iter(failed.values()))}")
    return {"done": done, "failed": failed}


def _undo(work: RepairWork) -> None:
    kept = work.snapshot.get("invitations") or {}
    rows = Invitation.objects.filter(pk__in=[int(key) for key in kept]).select_related(
        "room__mapping__account", "room__homeserver"
    )
    for invitation in rows:
        invitation_restore(
            homeserver=opened(invitation.room.homeserver.name),
            invitation=invitation,
            kept=kept[str(invitation.pk)],
            actor=work.actor,
        )


register_repair(
    "room.repair_membership",
    title="Mend refused invitations",
    repair_class="C",
    button="Mend",
    explain=(
        "Looks why each invitation is refused. Where the inviter is not in the room it comes back (Switchboard's own account helps where "
        "it is in the room) and invites; whoever left, is banned, or is there already is settled and not invited again."
    ),
    plan=_plan,
    apply=_apply,
    undo=_undo,
    target_kinds=("room", "mapping"),
)
