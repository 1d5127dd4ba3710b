"""What of the homeserver differs from what a mapping says. Pure: what was seen on one side, what is wanted on the other.

Each difference is either mended by a step of the same pass (``mends``), or needs a decision; then ``repair`` is the one that carries
it out. Nothing differs only because somebody decided so: who left a room, refused an invitation or is banned is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from agents.matrix.results import Profile
from agents.matrix.room_state import Member, RoomState
from agents.models import DriftKind, InvitationState

# So many refusals in a row are no accident (``services.invitations``).
REFUSED_OFTEN = 3
AccountState = Literal["ok", "missing", "refused"]
# After one of these nothing else of the room can be seen or mended.
BLOCKING = frozenset({DriftKind.ACCOUNT_GONE, DriftKind.ACCOUNT_OUT, DriftKind.ROOM_GONE, DriftKind.ROOM_UPGRADED})
# In this order the steps of one mapping follow each other.
ORDER = tuple(DriftKind)
DECIDED_BY = {
    DriftKind.ROOM_GONE: "mapping.relink",
    DriftKind.ROOM_DOUBLE: "room.dedupe",
    DriftKind.ROOM_SHARED: "room.unshare",
    DriftKind.SPACE_DOUBLE: "space.dedupe",
    DriftKind.ROOM_INVITES: "room.repair_membership",
    DriftKind.ACCOUNT_GONE: "identity.relogin",
}


# What the steps that mend are called: ``drift.`` and the kind.
STEP = "drift."
STEP_WORDS = {
    DriftKind.ACCOUNT_GONE: "Make the account of {label} again",
    DriftKind.ACCOUNT_NAME: "Give {label}'s account its name back",
    DriftKind.ACCOUNT_AVATAR: "Give {label}'s account its picture back",
    DriftKind.ACCOUNT_OUT: "Bring {label} back into its room",
    DriftKind.ROOM_GONE: "Find or make {label}'s room again",
    DriftKind.ROOM_UPGRADED: "Follow {label}'s room to where it was upgraded to",
    DriftKind.ROOM_NAME: "Give {label}'s room its name and topic back",
    DriftKind.ROOM_ALIAS: "Let the address of {label}'s room lead there again",
    DriftKind.ROOM_POWER: "Give {label} the power over its room back",
    DriftKind.ROOM_OPERATORS: "Invite {drift} to {label} again",
    DriftKind.SPACE_CHILD: "List {label}'s room in the space again",
    DriftKind.SPACE_GONE: "Link the space {label} again",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """What our rows say of one mapping. ``room_id`` is "" while the room does not exist; ``avatar_mxc`` "" where none is wanted."""

    mapping: int
    agent: int
    key: str
    label: str
    user_id: str
    own_session: bool
    avatar_mxc: str
    room: int
    room_id: str
    alias: str
    topic: str
    in_space: bool
    look_wanted_at: datetime | None = None
    looked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What the homeserver says. ``state`` is ``None`` where the account may not read the room, ``spare`` are further rooms of its own,
    ``agents`` other agents' accounts that are in the room: ``{user id: agent's name}``."""

    account: AccountState = "ok"
    account_sentence: str = ""
    joined: frozenset[str] = frozenset()
    profile: Profile = field(default_factory=Profile)
    state: RoomState | None = None
    alias_room: str = ""
    spare: tuple[str, ...] = ()
    agents: Mapping[str, str] = field(default_factory=dict)
    alias_owner: str = ""


@dataclass(frozen=True, slots=True)
class SpaceSeen:
    """The space as it was read: ``None`` for ``children`` when it was not looked at in this pass."""

    room_id: str = ""
    children: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Invited:
    """What our row says of an invitation."""

    state: str
    attempts: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference. ``mapping`` and ``agent`` are 0 for the space; ``key`` tells two of a kind apart."""

    kind: DriftKind
    mapping: int
    agent: int
    group: str
    label: str
    sentence: str
    key: str = ""
    stored: Any = ""
    found: Any = ""
    mends: bool = True

    @property
    def identity(self) -> tuple[int, str, str]:
        return (self.mapping, str(self.kind), self.key)

    @property
    def repair(self) -> str:
        """The repair that carries out the decision; "" where sync mends it, or nothing here can."""
        return "" if self.mends else DECIDED_BY.get(self.kind, "")

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{kind, mapping, key, sentence, stored, found, mends, repair}``."""
        return {
            "kind": str(self.kind), "mapping": self.mapping or None, "key": self.key, "sentence": self.sentence,
            "stored": self.stored, "found": self.found, "mends": self.mends, "repair": self.repair,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """What holds for all rooms: who is to be in them, which space lists them, and what Switchboard's own account is called.

    ``hears``: that account has to be in every room, or we do not hear what is said there (client mode).
    """

    invitees: tuple[str, ...]
    space: SpaceSeen
    sender: str
    hears: bool = False


def differences(subject: Subject, seen: Seen, wanted: Wanted, invited: Mapping[str, Invited]) -> list[Difference]:
    """All differences of one mapping, in the order in which they are mended. ``invited``: our rows of this room."""
    made = _Maker(subject)
    if seen.account == "missing":
        return [made(DriftKind.ACCOUNT_GONE, f"The homeserver has no account {subject.user_id} (any more).")]
    if seen.account == "refused":
        text = f"The homeserver does not let us speak as {subject.user_id}: {seen.account_sentence}"
        return [made(DriftKind.ACCOUNT_GONE, text, mends=False)]
    found = list(_profile(made, seen))
    if not subject.room_id:
        return found
    blocked = _place(made, seen)
    if blocked is not None:
        return [*found, blocked]
    assert seen.state is not None
    found += _room(made, seen, seen.state, wanted)
    found += people(made, seen.state, wanted.invitees, invited, subject.user_id)
    if wanted.hears and seen.state.membership(wanted.sender) != "join":
        text = f"{wanted.sender}, through which we hear what is said, is not in the room."
        found.append(made(DriftKind.ROOM_OPERATORS, text, key=wanted.sender, stored="join"))
    return found


class _Maker:
    """Differences of one mapping, or of the space."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    def __call__(self, kind: DriftKind, sentence: str, **fields: Any) -> Difference:
        one = self.subject
        return Difference(kind, one.mapping, one.agent, one.key, one.label, sentence, **fields)


def _profile(made: _Maker, seen: Seen) -> Iterable[Difference]:
    one, profile = made.subject, seen.profile
    if profile.display_name != one.label:
        shown = f"“{profile.display_name}”" if profile.display_name else "nothing"
        text = f"The account {one.user_id} is called {shown} instead of “{one.label}”."
        yield made(DriftKind.ACCOUNT_NAME, text, stored=one.label, found=profile.display_name)
    # An agent without a picture may have one that somebody gave to its account.
    if one.avatar_mxc and profile.avatar_url != one.avatar_mxc:
        text = f"The account {one.user_id} has {'another' if profile.avatar_url else 'no'} picture."
        yield made(DriftKind.ACCOUNT_AVATAR, text, stored=one.avatar_mxc, found=profile.avatar_url)


def _place(made: _Maker, seen: Seen) -> Difference | None:
    """Whether the room is there and the agent in it; nothing else can be said of a room that it is not in."""
    one, state = made.subject, seen.state
    if state is not None and state.replaced_by:
        text = f"The room {one.room_id} was upgraded: its talk goes on in {state.replaced_by}."
        return made(DriftKind.ROOM_UPGRADED, text, stored=one.room_id, found=state.replaced_by)
    if state is not None and state.membership(one.user_id) == "join":
        return None
    if seen.spare:
        return _moved(made, seen)
    if state is None and seen.alias_room != one.room_id:
        text = f"The room {one.room_id} is gone, or closed to the agent: it is not in it, and no address leads there."
        return made(DriftKind.ROOM_GONE, text, stored=one.room_id, found=sorted(seen.joined)[:20])
    return made(
        DriftKind.ACCOUNT_OUT,
        _out(one, state),
        stored=one.room_id,
        found=state.membership(one.user_id) if state else "",
    )


def _moved(made: _Maker, seen: Seen) -> Difference:
    """It is not in its room, but in another of its own: that one is taken, for no room is made while there is one."""
    one = made.subject
    target = seen.alias_room if seen.alias_room in seen.spare else seen.spare[0]
    if len(seen.spare) == 1 or target == seen.alias_room:
        text = f"The agent is not in its room {one.room_id}, but in {target}, which was made for it."
        return made(DriftKind.ROOM_GONE, text, stored=one.room_id, found=target)
    text = f"The agent is not in its room {one.room_id}, but in {len(seen.spare)} others of its own. Choose one (repair mapping.relink)."
    return made(DriftKind.ROOM_GONE, text, stored=one.room_id, found=list(seen.spare[:20]), mends=False)


def _out(one: Subject, state: RoomState | None) -> str:
    member = state.members.get(one.user_id) if state is not None else None
    if member is None:
        return f"{one.user_id} is not in its room {one.room_id}."
    if member.membership == "ban":
        return f"{member.sender} has banned the agent from its room."
    if member.membership == "invite":
        return f"The agent is invited to its room by {member.sender}, and not in it."
    if member.sender != one.user_id:
        return f"{member.sender} removed the agent from its room."
    return "The agent has left its room."


def _room(made: _Maker, seen: Seen, state: RoomState, wanted: Wanted) -> Iterable[Difference]:
    one = made.subject
    level, needed = state.level_of(one.user_id), power_needed(state)
    if level < needed:
        text = f"The agent has the power {level} in its room; naming it and inviting people takes {needed}."
        yield made(DriftKind.ROOM_POWER, text, stored=needed, found=level)
    if state.name != one.label or state.topic != one.topic:
        what = f"is called “{state.name}” instead of “{one.label}”" if state.name != one.label else "has another topic"
        text = f"The room {what}."
        yield made(DriftKind.ROOM_NAME, text, stored=[one.label, one.topic], found=[state.name, state.topic])
    yield from _address(made, seen, state)
    if wanted.space.children is not None:
        yield from _listed(made, state, wanted.space)
    for room_id in seen.spare:
        text = (
            f"{one.label} has a second room of its own, {room_id}, and answers only in {one.room_id}. Keep the one that people use "
            "(repair room.dedupe): the other one closes and leads there."
        )
        yield made(DriftKind.ROOM_DOUBLE, text, key=room_id, stored=one.room_id, found=room_id, mends=False)
    for user_id, name in seen.agents.items():
        text = (
            f"{name} ({user_id}) is in {one.label}'s room as well: what is said there goes to {one.label} only. Let it leave "
            "(repair room.unshare)."
        )
        yield made(DriftKind.ROOM_SHARED, text, key=user_id, stored=one.user_id, found=user_id, mends=False)


def power_needed(state: RoomState) -> int:
    """What an agent has to be able to do in its room: name it, list it under its space, invite."""
    kinds = ("m.room.name", "m.room.topic", "m.room.canonical_alias", "m.space.parent")
    return max(state.needed_to("invite"), *(state.needed_for(kind) for kind in kinds))


def _address(made: _Maker, seen: Seen, state: RoomState) -> Iterable[Difference]:
    one = made.subject
    if seen.alias_owner:
        text = (
            f"The room bears the address {one.alias}, which is {seen.alias_owner}'s. Give each agent its own room "
            "(repair mapping.relink)."
        )
        yield made(DriftKind.ROOM_SHARED, text, key=one.alias, stored=one.alias, found=seen.alias_owner, mends=False)
        return
    # Where the agent made itself a second room the address is part of that decision.
    if not one.alias or seen.alias_room in seen.spare:
        return
    if seen.alias_room != one.room_id:
        where = f"leads to {seen.alias_room}" if seen.alias_room else "leads nowhere"
        text = f"The room's address {one.alias} {where}."
        yield made(DriftKind.ROOM_ALIAS, text, stored=one.room_id, found=seen.alias_room)
    elif state.alias != one.alias and state.level_of(one.user_id) >= state.needed_for("m.room.canonical_alias"):
        shown = f"{state.alias} instead" if state.alias else "none"
        text = f"The room does not show its address {one.alias}, but {shown}."
        yield made(DriftKind.ROOM_ALIAS, text, key="shown", stored=one.alias, found=state.alias)


def _listed(made: _Maker, state: RoomState, space: SpaceSeen) -> Iterable[Difference]:
    one = made.subject
    # What our row knows to be missing is an ordinary step of the plan.
    if one.in_space and one.room_id not in (space.children or ()):
        yield made(DriftKind.SPACE_CHILD, "The space does not list the room.", stored=space.room_id)
    if space.room_id not in state.parents and state.level_of(one.user_id) >= state.needed_for("m.space.parent"):
        yield made(DriftKind.SPACE_CHILD, "The room does not name its space.", key="parent", stored=space.room_id)


def people(
    made: _Maker, state: RoomState, invitees: Iterable[str], invited: Mapping[str, Invited], inviter: str
) -> Iterable[Difference]:
    """Operators who are not in the room and were not asked, and invitations that the homeserver refuses."""
    for person in invitees:
        member, row = state.members.get(person), invited.get(person)
        if person == inviter or (member is not None and member.present) or _by_themselves(person, member):
            continue
        if member is not None and member.membership == "ban":
            text = (
                f"{person} is banned from the room by {member.sender}. Lift the ban, or take them off the list of those who are "
                "invited."
            )
            yield made(DriftKind.ROOM_OPERATORS, text, key=person, found="ban", mends=False)
        elif row is not None and row.state in (InvitationState.FAILED, InvitationState.PENDING):
            often = row.attempts >= REFUSED_OFTEN
            text = f"The invitation of {person} is refused ({row.attempts}×): {row.error}"
            text += " Mend or give it up (repair room.repair_membership)." if often else " It is tried again."
            yield made(DriftKind.ROOM_INVITES, text[:500], key=person, found=row.state, mends=not often)
        elif member is not None:
            text = f"{member.sender} removed {person}, who is to be in every room."
            yield made(DriftKind.ROOM_OPERATORS, text, key=person, stored="invited", found=member.membership)
        elif row is not None:
            text = f"The room knows nothing of {person}, who was invited."
            yield made(DriftKind.ROOM_OPERATORS, text, key=person, stored=row.state)


def _by_themselves(person: str, member: Member | None) -> bool:
    return member is not None and member.membership in ("leave", "knock") and member.sender == person


def settled(state: RoomState, invited: Mapping[str, Invited]) -> dict[str, str]:
    """Our rows of invitations that do not say what the room says: ``{user id: state that they should have}``."""
    found: dict[str, str] = {}
    for person, row in invited.items():
        member = state.members.get(person)
        if member is None:
            continue
        if member.present:
            is_now = InvitationState.JOINED if member.membership == "join" else InvitationState.INVITED
        elif _by_themselves(person, member) or member.membership == "ban":
            is_now = InvitationState.LEFT
        else:
            continue
        if row.state != is_now:
            found[person] = str(is_now)
    return found


def space_differences(
    subject: Subject, seen: Seen, wanted: Wanted, invited: Mapping[str, Invited], second: Mapping[str, str]
) -> list[Difference]:
    """As ``differences``, for the space. ``second`` are other spaces of ours: ``{room id: what to say of them}``."""
    made, state = _Maker(subject), seen.state
    if state is None or state.membership(subject.user_id) != "join":
        text = f"The space {subject.room_id} is gone, or Switchboard's account is not in it (any more)."
        return [made(DriftKind.SPACE_GONE, text, stored=subject.room_id)]
    if state.replaced_by or not state.is_space:
        what = f"was replaced by {state.replaced_by}" if state.replaced_by else "is a room and no space"
        text = f"The space {subject.room_id} {what}."
        return [made(DriftKind.SPACE_GONE, text, stored=subject.room_id, found=state.replaced_by)]
    found = []
    level, needed = state.level_of(subject.user_id), max(power_needed(state), state.needed_for("m.space.child"))
    if level < needed:
        text = f"Switchboard's account has the power {level} in the space; listing rooms takes {needed}."
        found.append(made(DriftKind.ROOM_POWER, text, key="space", stored=needed, found=level))
    if state.name != subject.label:
        text = f"The space is called “{state.name}” instead of “{subject.label}”."
        found.append(made(DriftKind.ROOM_NAME, text, key="space", stored=subject.label, found=state.name))
    if seen.alias_room != subject.room_id:
        where = f"leads to {seen.alias_room}" if seen.alias_room else "leads nowhere"
        text = f"The space's address {subject.alias} {where}."
        found.append(made(DriftKind.ROOM_ALIAS, text, key="space", stored=subject.room_id, found=seen.alias_room))
    found += people(made, state, wanted.invitees, invited, subject.user_id)
    for room_id, what in second.items():
        text = f"There is a second space, {room_id} ({what}). Merge them (repair space.dedupe), or people look into the wrong one."
        found.append(
            made(DriftKind.SPACE_DOUBLE, text, key=room_id, stored=subject.room_id, found=room_id, mends=False)
        )
    return found
