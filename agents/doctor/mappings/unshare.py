"""``room.unshare``: other agents leave a room that is one agent's. What is said there goes to that one only, whoever else is in it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from agents.doctor.mappings.relink import _wanted as wanted_mappings
from agents.matrix.errors import MatrixError, Refused
from agents.models import Account, Mapping
from agents.services.backends import homeserver_of
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.services.audit import record
from ops.words import counted, verb


@dataclass(frozen=True, slots=True)
class Guest:
    """Another agent's account in the room of a mapping."""

    mapping: int
    room_id: str
    host: str
    user_id: str
    name: str


def plan(work: RepairWork) -> Plan:
    """Asks each room who is in it."""
    guests: list[Guest] = []
    chosen = Mapping.objects.filter(pk__in=wanted_mappings(work), room__room_id__isnull=False)
    for mapping in chosen.select_related("account__homeserver", "room"):
        try:
            guests += _guests(mapping)
        except MatrixError as error:
            raise RepairRefused(error.sentence) from error
    return Plan(
        f"{counted(len(guests), 'agent leaves a room', 'agents leave rooms')} that {verb(len(guests), 'is', 'are')} another one's."
        if guests
        else "No other agent is in the room.",
        tuple(Change(f"mapping:{one.mapping}", f"{one.name} in {one.room_id}", "join", "leave") for one in guests),
        {"guests": [asdict(one) for one in guests]},
        {"left": []},
    )


def _guests(mapping: Mapping) -> list[Guest]:
    assert mapping.room is not None
    room_id, own = mapping.room.room_id or "", mapping.account.user_id
    try:
        inside = homeserver_of(mapping.account.homeserver).client.joined_members(room_id, own)
    except Refused as error:
        if error.retryable:
            raise
        return []  # that is mapping.room_drift
    rows = Account.objects.filter(user_id__in=inside - {own}, mapping__isnull=False).order_by("user_id")
    return [
        Guest(mapping.pk, room_id, own, user_id, name)
        for user_id, name in rows.values_list("user_id", "mapping__agent__name")
    ]


def apply(work: RepairWork) -> dict[str, Any]:
    """Each leaves as itself; nobody is removed by somebody else."""
    left: list[dict[str, Any]] = []
    guests = [Guest(**one) for one in work.plan.data["guests"]]
    for number, guest in enumerate(guests, start=1):
        mapping = Mapping.objects.select_related("account__homeserver").get(pk=guest.mapping)
        left.append(asdict(guest))
        work.remember(left=left)
        try:
            homeserver_of(mapping.account.homeserver).client.leave(guest.room_id, guest.user_id)
        except MatrixError as error:
            raise RepairFailed(error.sentence) from error
        record(
            actor=work.actor,
            action="room.unshared",
            target=mapping,
            before={"in_the_room": guest.user_id},
            message=f"{guest.name} left {guest.room_id}.",
        )
        work.progress(number, len(guests), guest.name)
    return {"left": [guest.user_id for guest in guests]}


def undo(work: RepairWork) -> None:
    """They are in the room again."""
    for one in work.snapshot.get("left", []):
        guest = Guest(**one)
        mapping = Mapping.objects.select_related("account__homeserver").filter(pk=guest.mapping).first()
        if mapping is None:
            continue
        client = homeserver_of(mapping.account.homeserver).client
        if guest.user_id not in client.joined_members(guest.room_id, guest.host):
            client.invite(guest.room_id, guest.user_id, guest.host)
            client.join(guest.room_id, guest.user_id)


register_repair(
    "room.unshare",
    title="Let other agents leave an agent's room",
    repair_class="C",
    button="Let them leave",
    explain="Looks which other agents are in the room and lets each leave it. Their own rooms and conversations stay as they are, and so "
    "does everything that was said here.",
    plan=plan,
    apply=apply,
    undo=undo,
    target_kinds=("mapping", "agent", "room"),
)
