"""Reads what the homeserver has of mappings and of the space: a handful of requests each, a few mappings at a time. Writes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from agents.matrix.errors import MatrixError, Refused, TokenRefused, account_is_missing
from agents.matrix.room_state import RoomState, room_state
from agents.models import Account, Mapping, Room, RoomKind
from agents.services.backends import Homeserver, user_prefix
from agents.sync.drift import Seen, Subject
from ops.logs import get_logger
from ops.side_by_side import side_by_side

log = get_logger(__name__)

# Of the rooms of one account that no row names so many are looked into.
MOST_UNKNOWN = 10
# Rooms that were found to be nobody's own are not looked into again for a while (seconds).
REMEMBERED = 3600.0
_not_own: dict[tuple[int, str], float] = {}


@dataclass(slots=True)
class Reading:
    """What was read, by mapping. ``error`` ended it early: what is missing was not looked at and nothing is known of it."""

    seen: dict[int, Seen] = field(default_factory=dict)
    error: MatrixError | None = None


def read_mappings(homeserver: Homeserver, subjects: Sequence[Subject]) -> Reading:
    """Look at mappings: account, profile, room and address (four requests each), then at rooms that only the homeserver knows.

    Never raises a ``MatrixError``: one that concerns the homeserver as a whole ends the reading.
    """
    reading = Reading()
    if homeserver.client.sessions is not None:
        # Read here, so that the threads below need no database.
        homeserver.client.sessions.warm([subject.user_id for subject in subjects])

    def one(subject: Subject) -> Seen | None:
        if reading.error is not None:
            return None
        try:
            return read_one(homeserver, subject)
        except MatrixError as error:
            reading.error = reading.error or error
            return None

    for subject, seen in zip(subjects, side_by_side(one, subjects), strict=True):
        if seen is not None:
            reading.seen[subject.mapping] = seen
    if reading.seen:
        _neighbours(homeserver, subjects, reading)
    return reading


def read_one(homeserver: Homeserver, subject: Subject) -> Seen:
    """One mapping. Raises ``MatrixError`` when the homeserver is gone, or refuses a token that is not this account's alone."""
    client = homeserver.client
    try:
        joined = frozenset(client.joined_rooms(subject.user_id))
    except Refused as error:
        if isinstance(error, TokenRefused) and not subject.own_session:
            raise
        if account_is_missing(error):
            return Seen(account="missing")
        return Seen(account="refused", account_sentence=error.sentence)
    profile = client.get_profile(subject.user_id)
    if not subject.room_id:
        return Seen(joined=joined, profile=profile)
    alias_room = (client.resolve_alias(subject.alias) or "") if subject.alias else ""
    return Seen(
        joined=joined,
        profile=profile,
        state=read_state(homeserver, subject.room_id, subject.user_id),
        alias_room=alias_room,
    )


def read_state(homeserver: Homeserver, room_id: str, user_id: str) -> RoomState | None:
    """The room as the account may read it (whoever was removed reads it as it was then), ``None`` where it may not."""
    try:
        return room_state(homeserver.client.full_state(room_id, user_id))
    except TokenRefused:
        raise
    except Refused as error:
        log.debug("look.room_closed", room=room_id, error=error.sentence[:200])
        return None


def _neighbours(homeserver: Homeserver, subjects: Sequence[Subject], reading: Reading) -> None:
    """Other agents in a room, another agent's address on it, and further rooms of an agent's own."""
    rows = [subject for subject in subjects if subject.mapping in reading.seen]
    _shared(rows, reading)
    _spare(homeserver, rows, reading)


def _shared(rows: Sequence[Subject], reading: Reading) -> None:
    members: set[str] = set()
    owners: set[str] = set()
    for subject in rows:
        state = reading.seen[subject.mapping].state
        if state is not None:
            inside = {user for user, member in state.members.items() if member.membership == "join"}
            members |= inside - {subject.user_id}
        if subject.alias and "@" + subject.alias[1:] != subject.user_id:
            owners.add("@" + subject.alias[1:])
    names = _agents_of(members | owners)
    if not names:
        return
    for subject in rows:
        seen = reading.seen[subject.mapping]
        there = seen.state.members if seen.state is not None else {}
        others = {
            user: names[user]
            for user, member in there.items()
            if member.membership == "join" and user != subject.user_id and user in names
        }
        owner = "@" + subject.alias[1:] if subject.alias else ""
        reading.seen[subject.mapping] = replace(
            seen, agents=others, alias_owner=names.get(owner, "") if owner != subject.user_id else ""
        )


def _agents_of(user_ids: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    ordered = sorted(user_ids)
    for start in range(0, len(ordered), 500):
        rows = Account.objects.filter(user_id__in=ordered[start : start + 500], mapping__isnull=False)
        found |= dict(rows.values_list("user_id", "mapping__agent__name"))
    return found


def _spare(homeserver: Homeserver, rows: Sequence[Subject], reading: Reading) -> None:
    unknown = _unknown_rooms(rows, reading)
    if not unknown:
        return
    now, own = time.monotonic(), homeserver.service.pk

    def look(pair: tuple[Subject, str]) -> bool:
        subject, room_id = pair
        if reading.error is not None or now - _not_own.get((own, room_id), -REMEMBERED) < REMEMBERED:
            return False
        try:
            state = read_state(homeserver, room_id, subject.user_id)
        except MatrixError as error:
            reading.error = reading.error or error
            return False
        mine = state is not None and _is_own(homeserver, state, subject)
        if not mine:
            _not_own[own, room_id] = now
        return mine

    pairs = [(subject, room_id) for subject, rooms in unknown for room_id in rooms]
    spare: dict[int, list[str]] = {}
    for (subject, room_id), mine in zip(pairs, side_by_side(look, pairs), strict=True):
        if mine:
            spare.setdefault(subject.mapping, []).append(room_id)
    if len(_not_own) > 50_000:
        _not_own.clear()
    for mapping, rooms in spare.items():
        reading.seen[mapping] = replace(reading.seen[mapping], spare=tuple(rooms))


def _unknown_rooms(rows: Sequence[Subject], reading: Reading) -> list[tuple[Subject, list[str]]]:
    """Rooms that an account is in and that none of our rows names: no agent's, no chat that a person opened, no space."""
    wanted = {room for subject in rows for room in reading.seen[subject.mapping].joined if room != subject.room_id}
    known: set[str] = set()
    ordered = sorted(wanted)
    for start in range(0, len(ordered), 500):
        ours = Room.objects.filter(room_id__in=ordered[start : start + 500])
        known.update(ours.filter(mapping__isnull=False).values_list("room_id", flat=True))  # type: ignore[arg-type]
        known.update(ours.exclude(kind=RoomKind.AGENT).values_list("room_id", flat=True))  # type: ignore[arg-type]
    found = []
    for subject in rows:
        joined = reading.seen[subject.mapping].joined - known - {subject.room_id}
        if joined and subject.room_id:
            found.append((subject, sorted(joined)[:MOST_UNKNOWN]))
    return found


def _is_own(homeserver: Homeserver, state: RoomState, subject: Subject) -> bool:
    return state.membership(subject.user_id) == "join" and made_for(homeserver, state, subject.label)


def made_for(homeserver: Homeserver, state: RoomState, name: str) -> bool:
    """Made for an agent and in use: an account of ours made it, or it bears the agent's name; no space, and without a successor."""
    if state.is_space or state.replaced_by:
        return False
    made_by_us = any(is_ours(homeserver, creator) for creator in state.creators[:1])
    return made_by_us or (bool(name) and state.name == name)


def is_ours(homeserver: Homeserver, user_id: str) -> bool:
    """Whether the Matrix id is Switchboard's own account or one of our namespace."""
    localpart, _, server = user_id[1:].partition(":")
    if server != homeserver.server_name:
        return False
    return user_id == homeserver.sender_id or localpart.startswith(user_prefix(homeserver))


def subjects_of(mappings: Iterable[Mapping]) -> list[Subject]:
    """The subjects of mappings at hand (with agent, account and room)."""
    return [subject_of(mapping) for mapping in mappings]


def subject_of(mapping: Mapping) -> Subject:
    """One mapping as it is compared."""
    from agents.sync.plan import topic_for

    agent, account, room = mapping.agent, mapping.account, mapping.room
    label = agent.name[:255]
    return Subject(
        mapping=mapping.pk, agent=agent.pk, key=f"{agent.service_id}/{agent.external_id}", label=label,
        user_id=account.user_id, own_session=account.way == "session",
        # A picture whose address is new is set by an ordinary step.
        avatar_mxc=account.avatar_mxc if account.avatar_source == agent.avatar_url else "",
        room=room.pk if room is not None else 0, room_id=(room.room_id or "") if room is not None else "",
        alias=room.alias if room is not None else "", topic=topic_for(agent.name, agent.description),
        in_space=room.in_space if room is not None else False,
        look_wanted_at=room.look_wanted_at if room is not None else None,
        looked_at=room.looked_at if room is not None else None,
    )  # fmt: skip
