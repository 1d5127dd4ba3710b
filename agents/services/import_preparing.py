"""Imports of mappings are prepared: files and the old database are read and compared, and nothing changes but the import's own rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import transaction

from agents.importing import relational
from agents.importing.read import read_file
from agents.importing.records import Planned, Reading, Record, rejected
from agents.importing.registry import parts
from agents.importing.world import World
from agents.matrix.errors import MatrixError
from agents.matrix.markdown import clean_text
from agents.models import ImportAction, ImportChoice, MappingImport, MappingImportRow
from agents.services.backends import Homeserver, NoHomeserver, open_homeserver
from agents.services.imports import ImportRefused
from ops.findings import Finding
from ops.models import Service
from ops.services.audit import record
from ops.words import counted

MOST_ROWS = 200_000


def import_prepare(
    *,
    files: Sequence[tuple[str, bytes]] = (),
    database_url: str = "",
    space_file: tuple[str, bytes] | None = None,
    homeserver: Homeserver | None = None,
    service_name: str = "",
    prefer: str = "",
    look_seconds: float = 20.0,
    actor: str,
) -> MappingImport:
    """Read and compare; nothing changes but the import's own rows. ``prefer`` decides conflicts beforehand where that side is known.

    Without ``homeserver`` the one that is set up is asked, where there is one. Raises ``ImportRefused`` when there is nothing to read.
    """
    run, rows = import_preview(
        files=files, database_url=database_url, space_file=space_file, homeserver=homeserver,
        service_name=service_name, prefer=prefer, look_seconds=look_seconds, actor=actor,
    )  # fmt: skip
    with transaction.atomic():
        run.save()
        for row in rows:
            row.run = run
        MappingImportRow.objects.bulk_create(rows, batch_size=500)
        record(
            actor=actor,
            action="import.prepared",
            target=run,
            message=f"{counted(len(rows), 'record')} of {', '.join(one['name'] for one in run.sources)}"[:500],
            after=run.counts,
        )
    return run


def import_preview(
    *,
    files: Sequence[tuple[str, bytes]] = (),
    database_url: str = "",
    space_file: tuple[str, bytes] | None = None,
    homeserver: Homeserver | None = None,
    service_name: str = "",
    prefer: str = "",
    look_seconds: float = 20.0,
    actor: str,
) -> tuple[MappingImport, list[MappingImportRow]]:
    """As ``import_prepare``, without a row being written."""
    if prefer and prefer not in {ImportChoice.STORED, ImportChoice.FILE, ImportChoice.HOMESERVER}:
        raise ImportRefused("Prefer one of stored, file and homeserver.")
    if service_name and not Service.objects.filter(name=service_name, enabled=True).exists():
        raise ImportRefused(f"There is no enabled service named {service_name!r}.")
    readings = _read([*files, *([space_file] if space_file else [])], database_url)
    findings = [finding for reading in readings for finding in reading.findings]
    if homeserver is None:
        homeserver, trouble = _homeserver()
        findings += trouble
    records: dict[str, list[Record]] = {}
    for reading in readings:
        for one in reading.records:
            records.setdefault(one.kind, []).append(one)
    if sum(map(len, records.values())) > MOST_ROWS:
        raise ImportRefused(f"More than {MOST_ROWS:,} records. Import one file after the other.")
    world = World(homeserver=homeserver, records=records, service_name=service_name, look_seconds=look_seconds)
    planned = _plan(records, world)
    if world.trouble:
        findings.append(
            Finding(
                "warning",
                "import.homeserver_not_asked",
                f"Not everything was compared with the homeserver. {world.trouble}",
            )
        )
    rows = [_row(number, one, prefer) for number, one in enumerate(planned, start=1)]
    run = MappingImport(
        homeserver=homeserver.service if homeserver is not None else None,
        actor=actor[:255],
        sources=[_clean(reading.to_dict()) for reading in readings],
        counts=_counts(rows),
        findings=[{**_clean(one.to_dict()), "evidence": _clean(dict(one.evidence))} for one in findings[:1000]],
    )
    return run, rows


def _read(files: Sequence[tuple[str, bytes]], database_url: str) -> list[Reading]:
    if not files and not database_url:
        raise ImportRefused("Name a file, or a database's address.")
    readings = [read_file(name, data) for name, data in files]
    if database_url:
        try:
            readings.append(relational.read_address(database_url))
        except relational.DatabaseUnreadable as error:
            raise ImportRefused(str(error)) from error
    return readings


def _homeserver() -> tuple[Homeserver | None, list[Finding]]:
    try:
        return open_homeserver(), []
    except NoHomeserver as error:
        return None, [Finding("warning", "homeserver.none", error.sentence)]
    except MatrixError as error:
        return None, [Finding("warning", error.code, error.sentence)]


def _plan(records: dict[str, list[Record]], world: World) -> list[Planned]:
    """Part by part, what others build on first; what belongs to no part at the end."""
    planned: list[Planned] = []
    known = parts()
    for part in known:
        if records.get(part.kind):
            planned += part.planner(records[part.kind], world)
    kinds = {part.kind for part in known}
    for kind in sorted(records.keys() - kinds):
        planned += [rejected(one) for one in records[kind]]
    return planned


def _row(number: int, one: Planned, prefer: str) -> MappingImportRow:
    raw = one.record.raw
    kept = {
        "fields": one.record.fields,
        "data": one.data,
        "key": raw.key,
        "raw": raw.value,
    }
    # Files may hold what no database takes: halves of characters, NUL.
    row = MappingImportRow(
        number=number,
        source=clean_text(raw.source)[:255],
        line=raw.line,
        kind=one.record.kind[:30],
        key=clean_text(one.record.key)[:255],
        label=clean_text(one.record.label)[:255],
        action=one.action,
        code=one.code[:60],
        sentence=clean_text(one.sentence)[:1000],
        stored=_clean(one.stored),
        file=_clean(one.file),
        homeserver=_clean(one.homeserver),
    )
    if one.action != ImportAction.UNCHANGED:
        row.record = json.dumps(kept, default=str)
    if one.action == ImportAction.CONFLICT and prefer and getattr(row, prefer):
        row.choice = prefer
    return row


def _clean(side: dict[str, Any]) -> dict[str, Any]:
    return {key: clean_text(value) if isinstance(value, str) else value for key, value in side.items()}


def _counts(rows: Iterable[MappingImportRow]) -> dict[str, int]:
    found = Counter(str(row.action) for row in rows)
    return {str(action): found[str(action)] for action in ImportAction.values}
