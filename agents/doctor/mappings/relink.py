"""``mapping.relink``: the mapping, the address and the rooms that the agent is in agree again. Never makes a room."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from agents.doctor.mappings import look as looking
from agents.doctor.mappings.sweep import Row, rows
from agents.matrix.errors import MatrixError, Refused, TokenRefused
from agents.models import Invitation, Mapping, Room, RoomKind
from agents.services.backends import Homeserver, homeserver_of
from agents.services.mappings import mapping_relink, mappings_swap, rows_kept, rows_put_back
from agents.services.relinking import follow_space as follow_space
from agents.services.relinking import move_address as move_address
from ops.doctor.queries import affected_by
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.words import counted, verb

CHECKS = ("mapping.room_drift", "mapping.duplicate_rooms", "routing.wrong_agent")
WORDS = {
    "not_in_room": "the agent is not in the room that its mapping names",
    "address_gone": "the agent's address leads nowhere",
    "address_elsewhere": "the agent's address leads to another room",
}


@dataclass(frozen=True, slots=True)
class Link:
    """What to do with one mapping: its room from now on; whether the account must enter it, and whether the address must move."""

    mapping: int
    room_id: str
    former: str
    enter: bool = False
    address: str = ""
    address_before: str = ""


def plan(work: RepairWork) -> Plan:
    """Looks at the rows first: whose room is whose. Then at the homeserver."""
    wanted = _wanted(work)
    swaps = swapped_rooms(wanted)
    if swaps:
        return _plan_swaps(swaps)
    links: list[Link] = []
    changes: list[Change] = []
    refused: list[str] = []
    chosen = list(Mapping.objects.filter(pk__in=wanted).select_related("account__homeserver", "agent", "room"))
    for mapping in chosen:
        row = next(iter(rows(mapping.account.homeserver, pks=[mapping.pk])), None)
        if row is None:
            continue
        try:
            link = _choose(homeserver_of(mapping.account.homeserver), row)
        except MatrixError as error:
            raise RepairRefused(error.sentence) from error
        except RepairRefused as error:
            refused.append(str(error))
            continue
        if link is not None:
            links.append(link)
            changes += _changes(row, link)
    if not links and refused:
        raise RepairRefused(" ".join(refused[:3]))
    kept = [mapping for mapping in chosen if mapping.pk in {link.mapping for link in links}]
    room_rows = Room.objects.filter(pk__in=[mapping.room_id for mapping in kept])
    sentence = (
        f"{counted(len(links), 'mapping gets the room that its', 'mappings get the room that their')} agent is in."
        if links
        else "Every mapping agrees."
    )
    if refused:
        sentence += f" {len(refused)} cannot be mended so: {refused[0]}"
    return Plan(
        sentence,
        tuple(changes),
        {"links": [asdict(link) for link in links]},
        {
            "rows": rows_kept(room_rows, kept, Invitation.objects.filter(room__in=room_rows)),
            "links": [asdict(link) for link in links],
        },
    )


def _wanted(work: RepairWork) -> list[int]:
    """Mappings by id: the target's (a mapping, an agent, a room), or all that open issues name."""
    found: list[int] = []
    # A check's target (a homeserver's name) stands for everything that the check found.
    targets = [work.target] if ":" in work.target else work.affected if not work.target else affected_by(CHECKS)
    for target in targets:
        kind, _, key = target.partition(":")
        if not key.isdigit():
            continue
        where = {"mapping": "pk", "agent": "agent_id", "room": "room_id"}.get(kind)
        if where:
            found += Mapping.objects.filter(**{where: int(key)}).values_list("pk", flat=True)
    return list(dict.fromkeys(found))


def swapped_rooms(pks: list[int] | None = None) -> dict[int, int | None]:
    """Mappings whose room bears another agent's address, with the row of the room that bears their own (``None``: there is none).

    ``pks``: only these, and whoever holds what is theirs. One query for all that is wrong.
    """
    wrong = list(wrong_addresses().select_related("account", "room"))
    if pks is not None:
        mine = {mapping.account.user_id for mapping in wrong if mapping.pk in pks}
        wrong = [mapping for mapping in wrong if mapping.pk in pks or "@" + mapping.room.alias[1:] in mine]
    own = {"#" + mapping.account.user_id[1:]: mapping.pk for mapping in wrong}
    found: dict[int, int | None] = dict.fromkeys([mapping.pk for mapping in wrong])
    wrong_pks = [mapping.pk for mapping in wrong]
    for room in Room.objects.filter(kind=RoomKind.AGENT, alias__in=own).select_related("mapping"):
        holder = getattr(room, "mapping", None)
        if holder is None or holder.pk in wrong_pks:
            found[own[room.alias]] = room.pk
    return found


def wrong_addresses() -> Any:
    """Mappings whose room's address is that of another account: names derive from ids, so this can never be right."""
    from django.db.models import Exists, F, OuterRef, Value
    from django.db.models.functions import Concat, Substr

    from agents.models import Account

    owner = Account.objects.filter(user_id=OuterRef("owner_id")).exclude(pk=OuterRef("account_id"))
    return (
        Mapping.objects.exclude(room__alias="")
        .filter(room__isnull=False)
        .annotate(owner_id=Concat(Value("@"), Substr("room__alias", 2)))
        .exclude(owner_id=F("account__user_id"))
        .filter(Exists(owner))
        .order_by("pk")
    )


def _plan_swaps(swaps: dict[int, int | None]) -> Plan:
    touched = list(Mapping.objects.filter(pk__in=swaps).select_related("agent", "room", "account"))
    names = dict(Room.objects.filter(pk__in=[pk for pk in swaps.values() if pk]).values_list("pk", "alias"))
    changes = tuple(
        Change(
            f"mapping:{mapping.pk}",
            "room",
            mapping.room.alias if mapping.room else None,
            names.get(swaps[mapping.pk] or 0),
        )
        for mapping in touched
    )
    return Plan(
        f"{counted(len(touched), 'mapping gets', 'mappings get')} back the room that bears {verb(len(touched), 'its', 'their')} own agent's address.",
        changes,
        {"swaps": {str(pk): room for pk, room in swaps.items()}},
        {"rows": rows_kept(touched)},
    )


def _choose(homeserver: Homeserver, row: Row) -> Link | None:
    """Which room is to be the agent's. Raises ``RepairRefused`` when there is none."""
    seen = looking.look(homeserver.client, row)
    trouble = looking.drift(row, seen)
    if not trouble or seen.joined is None:
        return None
    if seen.alias_room and seen.alias_room in seen.joined:
        return Link(row.pk, seen.alias_room, row.room_id)
    if row.room_id in seen.joined:
        return Link(row.pk, row.room_id, row.room_id, address=row.alias, address_before=seen.alias_room)
    others = looking.other_rooms(seen.joined, row.room_id)
    own = looking.own_rooms(homeserver, row.user_id, row.agent_name, others)
    if own:
        return Link(row.pk, own[0].room_id, row.room_id, address=row.alias, address_before=seen.alias_room)
    if _can_enter(homeserver, row):
        moves = row.alias if seen.alias_room != row.room_id else ""
        return Link(row.pk, row.room_id, row.room_id, True, moves, seen.alias_room)
    raise RepairRefused(
        f"{row.agent_name} is in no room of its own any more and cannot get back into {row.room_id}. "
        "Put account and room back from the mapping's page (a new room is made, and everybody is invited)."
    )


def _can_enter(homeserver: Homeserver, row: Row) -> bool:
    """Whether the account may get back into its room: Switchboard's own account is there and can invite it, or it is invited."""
    try:
        if row.room_id in homeserver.client.joined_rooms(homeserver.sender_id):
            return True
        member = homeserver.client.get_state(row.room_id, "m.room.member", row.user_id, row.user_id)
    except Refused as error:
        if isinstance(error, TokenRefused) or error.retryable:
            raise
        return False
    return bool(member and member.get("membership") == "invite")


def _changes(row: Row, link: Link) -> list[Change]:
    found = []
    if link.room_id != link.former:
        found.append(Change(row.target, "room", link.former, link.room_id))
    if link.enter:
        found.append(Change(row.target, "membership", "left", "join"))
    if link.address:
        found.append(Change(row.target, f"address {link.address}", link.address_before or None, link.room_id))
    return found


def apply(work: RepairWork) -> dict[str, Any]:
    """Each mapping by itself: membership, address, row, place in the space."""
    swaps = work.plan.data.get("swaps")
    if swaps:
        mappings_swap(
            wanted={int(pk): room for pk, room in swaps.items()},
            actor=work.actor,
            reason="Each room bears the address of its own agent again.",
        )
        return {"swapped": len(swaps)}
    links = [Link(**link) for link in work.plan.data["links"]]
    for number, link in enumerate(links, start=1):
        mapping = Mapping.objects.select_related("account__homeserver", "room", "agent").get(pk=link.mapping)
        homeserver = homeserver_of(mapping.account.homeserver)
        try:
            relink_one(homeserver, mapping, link, actor=work.actor)
        except MatrixError as error:
            raise RepairFailed(f"{mapping.agent}: {error.sentence}") from error
        except ValueError as error:
            raise RepairFailed(str(error)) from error
        work.progress(number, len(links), str(mapping.agent))
    return {"relinked": len(links)}


def relink_one(homeserver: Homeserver, mapping: Mapping, link: Link, *, actor: str) -> None:
    """Let the homeserver and the row follow one decision. May be repeated."""
    client, account = homeserver.client, mapping.account
    if link.enter:
        if mapping.room is not None and link.room_id in client.joined_rooms(homeserver.sender_id):
            client.invite(link.room_id, account.user_id, homeserver.sender_id)
        client.join(link.room_id, account.user_id)
    if link.address:
        move_address(homeserver, link.address, link.room_id, account.user_id)
    mapping_relink(
        mapping=mapping,
        room_id=link.room_id,
        homeserver=homeserver,
        actor=actor,
        reason="The mapping names the room that the agent is in.",
    )
    follow_space(homeserver, mapping.pk, former=link.former)


def undo(work: RepairWork) -> None:
    """The rows as they were; the address and the space follow them."""
    kept = work.snapshot
    for data in kept.get("links", []):
        link = Link(**data)
        mapping = Mapping.objects.select_related("account__homeserver", "agent").filter(pk=link.mapping).first()
        if mapping is not None:
            _take_back(homeserver_of(mapping.account.homeserver), mapping, link)
    rows_put_back(kept=kept["rows"], actor=work.actor, message="Relinking was undone.")


def _take_back(homeserver: Homeserver, mapping: Mapping, link: Link) -> None:
    client, user_id = homeserver.client, mapping.account.user_id
    if link.address and client.resolve_alias(link.address) == link.room_id:
        client.delete_alias(link.address, user_id)
        if link.address_before:
            client.put_alias(link.address, link.address_before, user_id)
    if link.enter and link.room_id in client.joined_rooms(user_id):
        client.leave(link.room_id, user_id)
    space = Room.objects.filter(homeserver=homeserver.service, kind=RoomKind.SPACE).first()
    if link.former != link.room_id and space is not None and space.room_id:
        client.remove_from_space(space.room_id, link.room_id, user_id=homeserver.sender_id)
        client.add_to_space(space.room_id, link.former, user_id=homeserver.sender_id, order=mapping.agent.name.lower())


register_repair(
    "mapping.relink",
    title="Let the mapping name the room that the agent is in",
    repair_class="C",
    button="Relink",
    explain="Looks at the agent's address and at the rooms that it is in, and lets the mapping name the one that people use. "
    "No room is made. What was said there before is not answered; the conversation goes on.",
    plan=plan,
    apply=apply,
    undo=undo,
    target_kinds=("mapping", "agent", "room"),
)
