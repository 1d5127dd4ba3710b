"""Client mode: does anybody listen, and in every room? Under an appservice the homeserver calls, and this has nothing to say."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from agents.doctor.matrix.common import GONE, homeservers, opened, sender_of, service_named
from agents.matrix.errors import MatrixError
from agents.services.backends import mode_of
from agents.services.homeserver_admin import CannotAdminister, room_join_user
from agents.sync.hearing import note_heard
from chat.matrix import hearing
from chat.models import SyncCursor
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.registry import Affected, CheckOutcome, register_check
from ops.words import counted, verb

# The loop notes every half minute that it listens.
SILENT_AFTER = timedelta(seconds=120)
SHOWN = 200
AT_ONCE = 500


@register_check(
    "matrix.listening",
    title="Client mode hears every room",
    tags=("matrix", "messages"),
    interval=60,
    severity="critical",
    scope="service",
    targets=homeservers,
    depends_on=("db.reachable", "worker.alive", "homeserver.reachable", "matrix.login_failed"),
    opens_after=2,
    repairs=("matrix.listen",),
)
def listening(target: str) -> CheckOutcome:
    """Red when the sync of Switchboard's own account has not come round for two minutes, amber while it is missing in rooms.

    What is said in a room without it is read by the agent's own account, in turns, so it comes late.
    """
    service = service_named(target)
    if service is None:
        return GONE
    if mode_of(service) != "client":
        return CheckOutcome("skip", "The homeserver sends us events itself: there is nothing to listen to.")
    cursor = SyncCursor.objects.filter(homeserver=service, user_id=sender_of(service)).first()
    rooms = hearing.unheard(service)
    count = rooms.count()
    evidence: dict[str, Any] = {"unheard": count, "listened_at": cursor.updated_at.isoformat() if cursor else None}
    if cursor is None or timezone.now() - cursor.updated_at > SILENT_AFTER:
        since = f"since {cursor.updated_at:%H:%M} UTC" if cursor is not None else "and never did"
        return CheckOutcome(
            "fail",
            f"Nobody listens to the homeserver {since}: what people say is not heard. Is a worker running? Its log says why the "
            "sync stops.",
            evidence,
        )
    if count:
        return CheckOutcome(
            "warn",
            f"Switchboard's own account is missing in {counted(count, 'room')}: what is said there is heard late. Bring it in, or give "
            f"{verb(count, 'the agent', 'the agents')} the right to invite.",
            evidence,
            tuple(
                Affected(f"room:{pk}", f"{name or room_id}: not heard.")
                for pk, name, room_id in rooms.order_by("pk").values_list("pk", "name", "room_id")[:SHOWN]
            ),
        )
    return CheckOutcome("pass", "Every room is heard.", evidence)


def _plan(work: RepairWork) -> Plan:
    homeserver = opened(work.target)
    if not homeserver.client_mode:
        raise RepairRefused("Under an appservice the homeserver sends us events itself.")
    rows = list(hearing.unheard(homeserver.service).order_by("pk")[:AT_ONCE])
    if not rows:
        return Plan("Switchboard's own account is in every room.")
    return Plan(
        f"Bring Switchboard's own account into {counted(len(rows), 'room')}: invited by the agent, or by an administrator where the "
        "agent may not.",
        tuple(Change(f"room:{row.pk}", "heard", False, True) for row in rows),
        {"rooms": [row.pk for row in rows]},
    )


def _apply(work: RepairWork) -> dict[str, Any]:
    homeserver = opened(work.target)
    try:
        hearing.look_after(homeserver)
        rest = hearing.unheard(homeserver.service).filter(pk__in=work.plan.data["rooms"])
        refused = ""
        for room in rest:
            try:
                room_join_user(
                    homeserver=homeserver, room_id=room.room_id or "", user_id=homeserver.sender_id, actor=work.actor
                )
                note_heard(room, True)
            except CannotAdminister as error:
                refused = error.sentence
                break
            except MatrixError as error:
                if error.retryable:
                    raise
                refused = error.sentence
    except MatrixError as error:
        raise RepairFailed(error.sentence) from error
    left = hearing.unheard(homeserver.service).filter(pk__in=work.plan.data["rooms"]).count()
    if left == len(work.plan.data["rooms"]):
        raise RepairFailed(f"No room let it in. {refused}")
    return {"entered": len(work.plan.data["rooms"]) - left, "left": left, "why": refused}


register_repair(
    "matrix.listen",
    title="Hear every room",
    repair_class="A",
    button="Bring it in",
    explain=(
        "Client mode: brings Switchboard's own account into the rooms in which it is missing, invited by the agent whose room it is, "
        "or by an administrator of the homeserver where the agent may not."
    ),
    plan=_plan,
    apply=_apply,
    target_kinds=("service", "room"),
)
