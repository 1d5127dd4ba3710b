"""Beginning anew with mappings: which account and which room is an agent's is forgotten here, and found again on the homeserver.

The predecessor's reset emptied a file, and the next start made every room a second time. Here the rows of rooms stay (conversations hang
on them) and lose what says which room of the homeserver they are; a rebuild in the same stillness puts it back. Nothing is made there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.db.models import QuerySet

from agents.matrix.errors import MatrixError
from agents.models import (
    Account,
    AccountWay,
    Agent,
    AgentState,
    Drift,
    Invitation,
    InviteePause,
    Mapping,
    MappingImport,
    Room,
    RoomKind,
)
from agents.services.backends import NoHomeserver, open_homeserver
from agents.services.rebuild import rebuild_apply, rebuild_plan
from agents.services.sync import SyncBusy
from agents.sync.takeover import TAKEOVER_FIELDS
from ops.findings import Finding
from ops.resets import Instead, ResetLine, ResetScope, ResetWork, line_of, register_reset
from ops.words import counted, verb

_LINES = "agents.lines"
# Gives the ids of agents and of rooms that something holds (a legal hold): they stay whatever is reset.
Held = Callable[[], tuple[set[int], set[int]]]
_held: list[Held] = []


def register_held(held: Held) -> None:
    """Let the app above say which agents and rooms must stay."""
    if held not in _held:
        _held.append(held)


_BATCH = 500


def _mappings() -> QuerySet[Mapping]:
    """Those of agents that their servers list: only these can be found again by their ids."""
    return Mapping.objects.exclude(agent__state=AgentState.ARCHIVED)


def _rooms() -> QuerySet[Room]:
    """Rooms that were made for agents, and the space. Chats that people opened belong to what was said in them."""
    return Room.objects.exclude(kind=RoomKind.DIRECT).exclude(mapping__agent__state=AgentState.ARCHIVED)


def _lines() -> list[ResetLine]:
    return [
        line_of(_mappings(), "mappings"),
        line_of(_rooms().filter(room_id__isnull=False), "rooms of agents (their rows forget which room they are)"),
        line_of(Invitation.objects.filter(room__in=_rooms()), "invitations"),
        line_of(MappingImport.objects.all(), "imports of mappings, with the way back from them"),
        line_of(InviteePause.objects.all(), "pauses of people who were refused"),
    ]


def _outside() -> Iterable[Finding]:
    rooms = _rooms().filter(room_id__isnull=False, kind=RoomKind.AGENT).count()
    if rooms:
        yield Finding(
            "warning",
            "reset.orphans",
            f"{counted(rooms, 'room')} of agents on the homeserver would be orphans. They are looked for there right after the removal, and "
            "become the agents' again; what cannot be told is left alone, named, and not made a second time.",
            evidence={"rooms": rooms},
        )
    kept = Mapping.objects.filter(agent__state=AgentState.ARCHIVED).count()
    if kept:
        yield Finding(
            "info",
            "reset.archived_stay",
            f"{counted(kept, 'mapping')} of archived agents {verb(kept, 'stays', 'stay')}: no server lists them, so their rooms could not be "
            "found again.",
        )
    sessions = Account.objects.filter(way=AccountWay.SESSION).count()
    if sessions:
        yield Finding(
            "info",
            "reset.sessions_stay",
            f"{counted(sessions, 'account')} {verb(sessions, 'speaks', 'speak')} with a session of {verb(sessions, 'its', 'their')} own. These "
            "sessions and the keys of encrypted rooms stay: nobody could get them again.",
        )


def _instead() -> Iterable[Instead]:
    yield Instead(
        "Rebuilding finds what is missing on the homeserver and removes nothing. Try it first.",
        "python manage.py rebuild_mappings --dry-run",
    )
    yield Instead(
        "Comparing shows which rooms and accounts differ from their rows.",
        "python manage.py sync_agents --verify --dry-run",
    )


def _remove(work: ResetWork) -> dict[str, int]:
    rooms = _rooms().filter(room_id__isnull=False)
    # Where intake stood in each room: the same room goes on from there, and nothing said meanwhile is missed.
    work.memory[_LINES] = {
        row.pk: (row.room_id, {name: getattr(row, name) for name in TAKEOVER_FIELDS})
        for row in rooms.only("pk", "room_id", *TAKEOVER_FIELDS).iterator(chunk_size=2000)
    }
    keys = list(rooms.values_list("pk", flat=True))
    gone = {
        "agents.Invitation": Invitation.objects.filter(room__in=_rooms()).delete()[0],
        "agents.Drift": Drift.objects.all().delete()[0],
        "agents.InviteePause": InviteePause.objects.all().delete()[0],
        "agents.MappingImport": MappingImport.objects.all().delete()[1].get("agents.MappingImport", 0),
        "agents.Mapping": _mappings().delete()[1].get("agents.Mapping", 0),
    }
    for start in range(0, len(keys), _BATCH):
        Room.objects.filter(pk__in=keys[start : start + _BATCH]).update(
            room_id=None, in_space=False, child_order="", switchboard_joined=False
        )
    return {**gone, "agents.Room": len(keys)}


def _find_again(work: ResetWork) -> list[str]:
    """The rows anew from the homeserver; what was not found is said. May be repeated."""
    try:
        homeserver = open_homeserver()
        work.progress("Looking for accounts and rooms on the homeserver")
        plan = rebuild_plan(homeserver=homeserver)
        findings: list[Finding] = list(plan.unread)
        if plan.writes:
            findings = rebuild_apply(plan=plan, actor=work.actor).findings
        else:
            findings += [Finding("warning", "rebuild.doubt", one.sentence, one.target) for one in plan.search.doubts]
    except NoHomeserver:
        # Nothing outside that could be found, or doubled.
        return []
    except MatrixError as error:
        return [f"The homeserver could not be asked: {error.sentence}"]
    except SyncBusy as error:
        return [str(error)]
    lines: dict[int, tuple[str, dict[str, Any]]] = work.memory.get(_LINES, {})
    for pk, (room_id, fields) in lines.items():
        Room.objects.filter(pk=pk, room_id=room_id).update(**fields)
    for finding in findings:
        work.say(finding)
    left = [f"{finding.target}: {finding.sentence}" for finding in findings]
    if lines and not left:
        left = _missing(lines)
    if not left:
        _tidy()
    return left


def _missing(lines: dict[int, tuple[str, dict[str, Any]]]) -> list[str]:
    """Rooms that were somebody's before and are nobody's now, although nothing was in doubt."""
    now = set(Room.objects.filter(room_id__isnull=False).values_list("room_id", flat=True))
    lost = [room_id for room_id, _ in lines.values() if room_id not in now]
    if not lost:
        return []
    return [
        f"{counted(len(lost), 'room')} of the homeserver {verb(len(lost), 'is', 'are')} nobody's now, for no listed agent could be told for "
        f"{verb(len(lost), 'it', 'them')}: {', '.join(lost[:5])}{' …' if len(lost) > 5 else ''}."
    ]


def _tidy() -> None:
    """Rows of accounts that turned out to be nobody's. Sessions stay."""
    left = Account.objects.filter(mapping__isnull=True).exclude(way=AccountWay.SESSION)
    left.filter(pk__in=list(left.values_list("pk", flat=True))).delete()


register_reset(
    ResetScope(
        name="mappings",
        label="Mappings",
        sentence="Which account and which room is whose. Found again on the homeserver; agents, their settings and what was said stay.",
        kind="mappings",
        lines=_lines,
        outside=_outside,
        instead=_instead,
        remove=_remove,
        find_again=_find_again,
        order=30,
    )
)


def _agent_lines() -> list[ResetLine]:
    return [
        line_of(Agent.objects.all(), "agents, with their settings here"),
        line_of(Room.objects.all(), "rooms, chats that people opened among them"),
        line_of(Account.objects.exclude(way=AccountWay.SESSION), "accounts of agents"),
    ]


def _agents_outside() -> Iterable[Finding]:
    yield Finding(
        "info",
        "reset.agents_return",
        "The agents themselves are on their servers, with their memory, and come back from there; their settings here (pauses, limits, notes) do "
        "not. Archived agents do not come back.",
    )


def _agents_remove(work: ResetWork) -> dict[str, int]:
    """Runs before the mappings': with everything gone there is no row that a room could go on with."""
    agents: set[int] = set()
    rooms: set[int] = set()
    for held in _held:
        some_agents, some_rooms = held()
        agents |= some_agents
        rooms |= some_rooms
    own = Room.objects.filter(mapping__agent__in=agents).values_list("pk", flat=True)
    rooms |= set(own)
    gone = {"agents.Invitation": Invitation.objects.exclude(room__in=rooms).delete()[0]}
    gone["agents.Agent"] = Agent.objects.exclude(pk__in=agents).delete()[1].get("agents.Agent", 0)
    gone["agents.Room"] = Room.objects.exclude(pk__in=rooms).delete()[1].get("agents.Room", 0)
    accounts = Account.objects.exclude(way=AccountWay.SESSION).exclude(mapping__isnull=False)
    gone["agents.Account"] = accounts.delete()[1].get("agents.Account", 0)
    return gone


register_reset(
    ResetScope(
        name="agents",
        label="Agents",
        sentence="Agents with their rooms and accounts here; they come back from their servers.",
        kind="mappings",
        lines=_agent_lines,
        outside=_agents_outside,
        remove=_agents_remove,
        alone=False,
        order=25,
    )
)
