"""Finds on a living homeserver what our rows have lost: which account and which room is whose. Reads only, and needs no rows.

What says so, the surest first: the mark that an adopted room carries (``agents.sync.takeover.MARK``), the address that derives from
the account's name, the room that the account made itself. Where two things say something different, or several rooms are equally
good, it is a doubt for an operator and nothing is guessed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from agents.backends.base import AgentInfo
from agents.matrix.names import user_id
from agents.services.backends import Homeserver, user_prefix
from agents.sync.look import is_ours
from agents.sync.seen import SeenAccount, SeenRoom, look_at, look_through, mark_of
from agents.sync.takeover import MARK, names_of

AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Wanted:
    """A listed agent that has no room in our rows. ``known_account`` is what its row says, "" without one."""

    service: str
    kind: str
    info: AgentInfo
    known_account: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.service, self.info.external_id

    @property
    def target(self) -> str:
        return f"{self.service}/{self.info.external_id}"


@dataclass(frozen=True, slots=True)
class Claim:
    """What was found of one agent. ``how``: ``mark``, ``alias``, ``creator``, ``space``, or "" when it has an account but no room.

    ``direct`` are chats that people opened with it, ``further`` rooms of its own besides the one that was chosen.
    """

    wanted: Wanted
    account: SeenAccount
    room: SeenRoom | None
    how: str
    direct: tuple[SeenRoom, ...] = ()
    further: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "service": self.wanted.service,
            "agent": self.wanted.info.external_id,
            "name": self.wanted.info.name,
            "account": self.account.user_id,
            "room_id": self.room.room_id if self.room else None,
            "found_by": self.how,
            "direct_rooms": [room.room_id for room in self.direct],
            "further_rooms": list(self.further),
        }


@dataclass(frozen=True, slots=True)
class Doubt:
    """What has to be decided by somebody. ``rooms`` are those in question."""

    target: str
    name: str
    sentence: str
    rooms: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {"target": self.target, "name": self.name, "sentence": self.sentence, "rooms": list(self.rooms)}


@dataclass(slots=True)
class Search:
    """The result. ``absent`` are agents that the homeserver knows nothing of, ``unclaimed`` accounts of ours that no listed agent owns."""

    claims: list[Claim] = field(default_factory=list)
    doubts: list[Doubt] = field(default_factory=list)
    absent: list[Wanted] = field(default_factory=list)
    unclaimed: list[str] = field(default_factory=list)


def search(
    homeserver: Homeserver,
    wanted: Sequence[Wanted],
    *,
    children: Mapping[str, Mapping[str, Any]],
    further_accounts: Iterable[str] = (),
    taken_rooms: frozenset[str] = frozenset(),
    taken_accounts: frozenset[str] = frozenset(),
    progress: Callable[[int, int, str], None] = lambda done, total, text: None,
) -> Search:
    """Look for the agents. ``children`` is the space's list, ``further_accounts`` other accounts that may be ours.

    ``taken_…`` belong to agents that our rows know well. Raises ``MatrixError`` when the homeserver is gone or refuses our token.
    """
    marks = _marks_of(children)
    named: dict[str, list[Wanted]] = defaultdict(list)
    for one in wanted:
        for name in _candidates(homeserver, one, marks.get(one.key)):
            named[name].append(one)
    strays = [one for one in dict.fromkeys(further_accounts) if one not in named]
    asked = [one for one in (*named, *strays) if one not in taken_accounts]
    if homeserver.client_mode:
        seen = look_through(homeserver, asked, progress)
        return _conclude(homeserver, wanted, named, seen, set(children), taken_rooms)
    seen = {}
    if homeserver.client.sessions is not None:
        homeserver.client.sessions.warm(asked)
    with ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="rebuild") as pool:
        for number, account in enumerate(pool.map(lambda one: look_at(homeserver, one), asked), start=1):
            if account is not None:
                seen[account.user_id] = account
            progress(number, len(asked), asked[number - 1])
    return _conclude(homeserver, wanted, named, seen, set(children), taken_rooms)


def _candidates(homeserver: Homeserver, one: Wanted, marked: str | None) -> list[str]:
    names = names_of(homeserver, one.service, one.kind, one.info.external_id)
    derived = [user_id(name, homeserver.server_name) for name in names]
    return list(dict.fromkeys([name for name in (one.known_account, marked) if name] or derived))


def _marks_of(children: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """``{(service, agent): user id}`` of the space's entries that carry a mark."""
    found = {}
    for content in children.values():
        mark = mark_of(content.get(MARK))
        if mark.get("account"):
            found[mark["service"], mark["agent"]] = mark["account"]
    return found


def _conclude(
    homeserver: Homeserver,
    wanted: Sequence[Wanted],
    named: Mapping[str, Sequence[Wanted]],
    seen: Mapping[str, SeenAccount],
    listed: set[str],
    taken_rooms: frozenset[str],
) -> Search:
    """Pure: who owns what of that which was seen."""
    result = Search()
    of_mark = _mark_reader(wanted)
    owners: dict[tuple[str, str], list[SeenAccount]] = defaultdict(list)
    for account in seen.values():
        marks = [room.mark for room in _own(homeserver, account) if room.mark]
        # Whose mark it bears it is, also when that agent is in no list any more.
        claimed = {key for mark in marks if (key := of_mark(mark)) is not None}
        if not marks:
            claimed = {one.key for one in named.get(account.user_id, ())}
        for key in sorted(claimed):
            owners[key].append(account)
        if not claimed:
            result.unclaimed.append(account.user_id)
    claims: list[Claim] = []
    for one in wanted:
        accounts = _settled(homeserver, one, owners[one.key], owners)
        if not accounts:
            result.absent.append(one)
        elif isinstance(accounts, Doubt):
            result.doubts.append(accounts)
        else:
            chosen = _claim(homeserver, one, accounts[0], listed, taken_rooms)
            if isinstance(chosen, Doubt):
                result.doubts.append(chosen)
            else:
                claims.append(chosen)
    _without_rivals(claims, result)
    return result


def _mark_reader(wanted: Sequence[Wanted]) -> Callable[[Mapping[str, str]], tuple[str, str] | None]:
    """Which agent a mark names; a service that is called otherwise now is known by an agent's id that only one has."""
    keys = {one.key for one in wanted}
    by_id: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for key in keys:
        by_id[key[1]].append(key)

    def read(mark: Mapping[str, str]) -> tuple[str, str] | None:
        key = (mark["service"], mark["agent"])
        if key in keys:
            return key
        same = by_id.get(mark["agent"], [])
        return same[0] if len(same) == 1 else None

    return read


def _settled(
    homeserver: Homeserver,
    one: Wanted,
    accounts: list[SeenAccount],
    owners: Mapping[tuple[str, str], list[SeenAccount]],
) -> list[SeenAccount] | Doubt:
    """The one account of an agent, none, or why that cannot be told."""
    if not accounts:
        return []
    if len(accounts) > 1:
        # Two names are the agent's: the one with its service's name is surely its own, the other perhaps another server's.
        scoped = user_id(names_of(homeserver, one.service, one.kind, one.info.external_id)[-1], homeserver.server_name)
        roomed = [account for account in accounts if any(_own(homeserver, account))]
        own = [account for account in accounts if account.user_id == scoped]
        if len(roomed) == 1:
            return roomed
        if not own or len(accounts) > 2:
            names = ", ".join(account.user_id for account in accounts)
            return Doubt(one.target, one.info.name, f"Several accounts may be the agent's: {names}.")
        return own
    rivals = [key for key, found in owners.items() if key != one.key and found == accounts]
    if rivals:
        names = ", ".join("/".join(key) for key in rivals)
        return Doubt(one.target, one.info.name, f"{accounts[0].user_id} may as well be the account of {names}.")
    return accounts


def _own(homeserver: Homeserver, account: SeenAccount) -> list[SeenRoom]:
    """Rooms that were made for an agent: no spaces, none that were replaced, no chats that people opened."""
    own = []
    for room in account.rooms:
        if room.kind == "m.space" or room.replaced_by or _is_portal(homeserver, room):
            continue
        if (
            room.mark.get("account") == account.user_id
            or (room.mark and not room.mark.get("account"))
            or (not room.mark and (room.creator == account.user_id or room.room_id == account.by_alias))
        ):
            own.append(room)
    return own


def _is_portal(homeserver: Homeserver, room: SeenRoom) -> bool:
    """A room that shows a conversation of the portal (``chat.services.portal_rooms``) is no agent's own."""
    return room.alias.startswith(f"#{user_prefix(homeserver)}portal_")


def _claim(
    homeserver: Homeserver, one: Wanted, account: SeenAccount, listed: set[str], taken: frozenset[str]
) -> Claim | Doubt:
    own = [room for room in _own(homeserver, account) if room.room_id not in taken]
    direct = tuple(
        room
        for room in account.rooms
        if room not in own and room.kind != "m.space" and not room.replaced_by and not room.mark
        and room.room_id not in taken and (_is_portal(homeserver, room) or not is_ours(homeserver, room.creator))
    )  # fmt: skip
    if not own:
        alias_room = account.by_alias if account.by_alias not in taken else ""
        # Its address leads to a room that it was put out of: that is its room all the same, and sync brings it back.
        outside = SeenRoom(alias_room, "", "", "", "", "", False, "", "", {}, {}) if alias_room else None
        return Claim(one, account, outside, "alias" if outside else "", direct)
    for how, candidates in (
        ("mark", [room for room in own if room.mark.get("agent") == one.info.external_id]),
        ("alias", [room for room in own if room.room_id == account.by_alias]),
        ("creator", own),
        ("space", [room for room in own if room.room_id in listed]),
    ):
        if len(candidates) == 1:
            further = tuple(room.room_id for room in own if room is not candidates[0])
            return Claim(one, account, candidates[0], how, direct, further)
        if how == "mark" and len(candidates) > 1:
            own = candidates
    rooms = tuple(room.room_id for room in own)
    return Doubt(
        one.target,
        one.info.name,
        f"{account.user_id} is in {len(rooms)} rooms of its own, and nothing says which is the one. Let its address "
        f"(#{account.user_id[1:]}) lead to the right one, and rebuild again.",
        rooms,
    )


def _without_rivals(claims: list[Claim], result: Search) -> None:
    """A room that two agents would get belongs to neither until somebody says so."""
    by_room: dict[str, list[Claim]] = defaultdict(list)
    for claim in claims:
        if claim.room is not None:
            by_room[claim.room.room_id].append(claim)
    for claim in claims:
        rivals = by_room[claim.room.room_id] if claim.room is not None else []
        if len(rivals) < 2:
            result.claims.append(claim)
            continue
        names = " and ".join(rival.wanted.info.name for rival in rivals)
        result.doubts.append(
            Doubt(
                claim.wanted.target,
                claim.wanted.info.name,
                f"{names} would get the same room.",
                (claim.room.room_id if claim.room else "",),
            )
        )
