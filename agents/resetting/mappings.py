"""Beginning anew with mappings: which account and which room is an agent's is forgotten here, and found again on the homeserver.

The predecessor's reset emptied a file, and the next start made every room a second time. Here the rows of rooms stay (conversations hang
on them) and lose what says which room of the homeserver they are; a rebuild in the same stillness puts it back. Nothing is made there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import QuerySet

from agents.matrix.errors import MatrixError
from agents.models import (
    Account,
    AccountWay,
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
from ops.resets import Instead, ResetLine, ResetScope, ResetWork, delete_rows, line_of, register_reset
from ops.words import counted, verb

_LINES = "agents.lines"
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
    gone = delete_rows(
        Invitation.objects.filter(room__in=_rooms()),
        Drift.objects.all(),
        InviteePause.objects.all(),
        MappingImport.objects.all(),
        _mappings(),
    )
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
