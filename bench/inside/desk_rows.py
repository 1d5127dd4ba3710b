"""Makes everything that the operator's pages about agents list, in great number: rows only, no server is asked."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from bench.inside.setup import start

AT_ONCE = 2_000


def main(agents: int, server_name: str = "sb.test") -> dict[str, Any]:
    """``agents`` mapped agents, half as many direct chats, drift on every twentieth, an import as long, ten audit events for each."""
    from django.utils import timezone

    from agents.matrix.names import alias, localpart_for, user_id
    from agents.models import Account, Agent, Invitation, Mapping, Room, RoomKind
    from ops.models import Service

    now = timezone.now()
    service, homeserver = Service.objects.get(name="letta"), Service.objects.get(name="homeserver")
    keys = [f"agent-{number:08x}-0000-4000-8000-{number:012x}" for number in range(agents)]
    names = [localpart_for(key) for key in keys]
    rows = _made(
        Agent,
        (
            Agent(service=service, external_id=key, name=f"Librarian {n:05}", model="gpt-4o", paused=n % 50 == 0)
            for n, key in enumerate(keys)
        ),
    )
    accounts = _made(
        Account,
        (
            Account(
                homeserver=homeserver, user_id=user_id(name, server_name), localpart=name, display_name=row.name,
                registered_at=None if n % 40 == 0 else now,
            )
            for n, (row, name) in enumerate(zip(rows, names, strict=True))
        ),
    )  # fmt: skip
    rooms = _made(
        Room,
        (
            Room(
                homeserver=homeserver, room_id=f"!{name}:{server_name}", alias=alias(name, server_name), name=row.name,
                in_space=True, last_event_at=now - timedelta(seconds=n), looked_at=now,
            )
            for n, (row, name) in enumerate(zip(rows, names, strict=True))
        ),
    )  # fmt: skip
    _made(
        Room,
        (
            Room(homeserver=homeserver, kind=RoomKind.DIRECT, room_id=f"!dm{n}:{server_name}")
            for n in range(agents // 2)
        ),
    )
    mappings = _made(
        Mapping,
        (
            Mapping(
                agent=row, account=account, room=room, problem="The homeserver refused the room." if n % 50 == 7 else "",
                problem_since=now if n % 50 == 7 else None,
            )
            for n, (row, account, room) in enumerate(zip(rows, accounts, rooms, strict=True))
        ),
    )  # fmt: skip
    _made(
        Invitation,
        (
            Invitation(
                room=room, user_id=f"@person{n % 90}_{k}:{server_name}", state=("joined", "invited", "failed")[n % 3]
            )
            for n, room in enumerate(rooms)
            for k in range(2)
        ),
    )
    Room.objects.create(homeserver=homeserver, kind=RoomKind.SPACE, room_id=f"!space:{server_name}", name="Agents")
    _drift(homeserver, mappings, now)
    _imports(homeserver, keys, names, server_name)
    _log(rows, now)
    return {"agents": len(rows)}


def _made(model: Any, rows: Iterable[Any]) -> list[Any]:
    return list(model.objects.bulk_create(rows, batch_size=AT_ONCE))


def _drift(homeserver: Any, mappings: list[Any], now: Any) -> None:
    from agents.models import Drift, DriftKind

    kinds = [kind for kind in DriftKind if not kind.startswith("space.")]
    _made(
        Drift,
        (
            Drift(
                homeserver=homeserver, mapping=mapping, kind=kinds[n % len(kinds)], sentence="The room is called otherwise.",
                detail={"stored": "Librarian", "found": "Bibliothek"}, mends=n % 4 != 0, found_at=now, seen_at=now,
                mended_at=None if n % 20 == 0 else now,
            )
            for n, mapping in enumerate(mappings)
        ),
    )  # fmt: skip


def _imports(homeserver: Any, keys: list[str], names: list[str], server_name: str) -> None:
    from agents.models import MappingImport, MappingImportRow

    actions = ("create", "update", "unchanged", "conflict", "reject")
    run = MappingImport.objects.create(
        homeserver=homeserver,
        actor="person:bench",
        sources=[{"name": "agent_user_mappings.json", "kind": "mappings", "size": 1, "records": len(keys)}],
        counts={action: len(keys) // len(actions) for action in actions},
    )
    _made(
        MappingImportRow,
        (
            MappingImportRow(
                run=run, number=n + 1, source="agent_user_mappings.json", line=n * 10 + 2, kind="mapping", key=key,
                label=f"Librarian {n:05}", action=actions[n % len(actions)], sentence="As the file says.",
                stored={"room_id": f"!{name}:{server_name}"}, file={"room_id": f"!other{n}:{server_name}"},
                homeserver={"room_id": f"!{name}:{server_name}"}, record="{}",
            )
            for n, (key, name) in enumerate(zip(keys, names, strict=True))
        ),
    )  # fmt: skip


def _log(rows: list[Any], now: Any) -> None:
    from agents.models import SyncRun, SyncState
    from ops.models import AuditEvent, Issue

    _made(
        AuditEvent,
        (
            AuditEvent(
                actor=f"person:operator{k}", action="agent.updated", target_type="agents.agent", target_id=str(row.pk),
                target_label=row.name, message="As its server says.", before={"name": "a"}, after={"name": row.name},
            )
            for k in range(10)
            for row in rows
        ),
    )  # fmt: skip
    _made(
        Issue,
        (
            Issue(
                check_id="agent.silent", target=f"agent:{row.pk}", sentence=f"{row.name} does not answer.", opened_at=now,
                last_failed_at=now, state="open" if n % 10 == 0 else "resolved", evidence={"agent": row.name},
            )
            for n, row in enumerate(rows[: len(rows) // 5])
        ),
    )  # fmt: skip
    steps = [{"kind": "room.describe", "agent": row.name} for row in rows[:2000]]
    _made(
        SyncRun,
        (
            SyncRun(
                state=SyncState.DONE, finished_at=now, plan=steps if n % 10 == 0 else [], counts={"room.describe": n}
            )
            for n in range(200)
        ),
    )


if __name__ == "__main__":
    start(main)
