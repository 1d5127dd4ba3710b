"""Imports of mappings: prepared (read and compared), decided, applied row by row, and what could not be taken given back as a file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from agents.importing import relational
from agents.importing.formats import rejects as rejects_format
from agents.importing.identities import sessions_of
from agents.importing.read import read_file
from agents.importing.records import BROKEN, Planned, Reading, Record, rejected
from agents.importing.registry import Part, parts
from agents.importing.work import Done, Task, Work
from agents.importing.world import World
from agents.matrix.errors import MatrixError
from agents.matrix.markdown import clean_text
from agents.models import ImportAction, ImportChoice, ImportState, MappingImport, MappingImportRow
from agents.services.backends import Homeserver, NoHomeserver, homeserver_of, open_homeserver
from ops.findings import Finding
from ops.locks import HeldLock, named_lock
from ops.logs import get_logger
from ops.models import Service
from ops.services.audit import record
from ops.words import counted

log = get_logger(__name__)

LOCK = "mappings.import"
Progress = Callable[[int, int, str], None]
# So many rows are asked about side by side before they are written.
AT_ONCE = 32
MOST_ROWS = 200_000


class ImportRefused(Exception):
    """What was asked for cannot be done with this import. The text says why, and what to do."""


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


# Deciding


def import_choose(*, run: MappingImport, rows: Iterable[int] | None = None, choice: str, actor: str) -> int:
    """Decide conflicts (by the rows' ids; all of the import without): which side counts. Returns how many were decided.

    Raises ``ImportRefused`` when a row is no open conflict, or has nothing on that side.
    """
    if choice not in ImportChoice.values:
        raise ImportRefused("Choose one of stored, file, homeserver, or nothing.")
    if run.state not in {ImportState.PLANNED, ImportState.DONE, ImportState.FAILED}:
        raise ImportRefused(f"This import is {run.get_state_display().lower()}: nothing can be decided now.")
    with transaction.atomic():
        open_rows = MappingImportRow.objects.filter(run=run, action=ImportAction.CONFLICT).exclude(result="done")
        if rows is not None:
            wanted = set(rows)
            open_rows = open_rows.filter(pk__in=wanted)
            missing = wanted - set(open_rows.values_list("pk", flat=True))
            if missing:
                raise ImportRefused(f"Row {min(missing)} is no conflict that is open.")
        found = list(open_rows.only("pk", "label", "stored", "homeserver", "file"))
        if choice == ImportChoice.HOMESERVER or choice == ImportChoice.STORED:
            empty = [row for row in found if not getattr(row, choice)]
            if empty and rows is not None:
                raise ImportRefused(f"{empty[0].label}: nothing is known of that side; choose another one.")
            found = [row for row in found if getattr(row, choice)]
        keys = [row.pk for row in found]
        for start in range(0, len(keys), 500):
            MappingImportRow.objects.filter(pk__in=keys[start : start + 500]).update(
                choice=choice, result="", result_sentence=""
            )
        if keys:
            record(
                actor=actor,
                action="import.decided",
                target=run,
                message=f"{counted(len(keys), 'conflict')}: {choice or 'open'}.",
            )
    return len(keys)


# Applying


def import_apply(
    *,
    run: MappingImport,
    actor: str,
    progress: Progress = lambda done, total, text: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> MappingImport:
    """Apply what is decided and not done yet. May be repeated: rows that failed are tried again, the others are not touched.

    A row that fails says so itself. Raises ``ImportRefused``, ``NoHomeserver``, ``MatrixError`` when the homeserver cannot be asked at
    all, and ``ops.locks.LockHeld`` while another import is applied.
    """
    with named_lock(LOCK, ttl=120) as lock:
        run.refresh_from_db()
        if run.state == ImportState.DISCARDED:
            raise ImportRefused("This import was discarded. Read the files again.")
        homeserver = homeserver_of(run.homeserver) if run.homeserver is not None else open_homeserver()
        MappingImport.objects.filter(pk=run.pk).update(state=ImportState.APPLYING, error="")
        record(actor=actor, action="import.started", target=run)
        try:
            stopped = _apply(run, homeserver, actor, progress, should_stop, lock)
        except BaseException as error:
            MappingImport.objects.filter(pk=run.pk).update(
                state=ImportState.FAILED, error=f"{type(error).__name__}: {error}"[:2000]
            )
            raise
        _close(run, actor, stopped)
    run.refresh_from_db()
    return run


def _apply(
    run: MappingImport,
    homeserver: Homeserver,
    actor: str,
    progress: Progress,
    should_stop: Callable[[], bool],
    lock: HeldLock,
) -> bool:
    work = Work(homeserver, actor, sessions_of(list(_identities(run))))
    total, done = _open_rows(run).count(), 0
    for part in parts():
        for tasks in _batches(run, part):
            if part.ask is not None:
                work.ahead(tasks, part.ask)
            for task in tasks:
                if should_stop():
                    return True
                lock.check()
                _apply_row(part, work, task)
                done += 1
                progress(done, total, task.row.label or task.row.key)
    return False


def _open_rows(run: MappingImport) -> Any:
    rows = MappingImportRow.objects.filter(run=run, result__in=["", "failed"])
    return rows.filter(action__in=[ImportAction.CREATE, ImportAction.UPDATE, ImportAction.CONFLICT]).exclude(
        action=ImportAction.CONFLICT, choice=ImportChoice.NONE
    )


def _batches(run: MappingImport, part: Part) -> Iterator[list[Task]]:
    keys = list(_open_rows(run).filter(kind=part.kind).order_by("number").values_list("pk", flat=True))
    for start in range(0, len(keys), AT_ONCE):
        rows = MappingImportRow.objects.filter(pk__in=keys[start : start + AT_ONCE]).order_by("number")
        yield [Task.of(row) for row in rows]


def _identities(run: MappingImport) -> Iterator[dict[str, Any]]:
    for row in MappingImportRow.objects.filter(run=run, kind="identity").only("record").iterator(chunk_size=500):
        if row.record:
            yield json.loads(row.record).get("fields", {})


def _apply_row(part: Part, work: Work, task: Task) -> None:
    row = task.row
    try:
        done = part.applier(work, task)
    except Exception as error:
        # One row's trouble must not keep the others from being taken over.
        log.exception("import.row_failed", row=row.pk)
        done = Done("failed", f"{type(error).__name__} while this was applied; the log has the details.")
    row.result, row.result_sentence, row.target = done.result, done.sentence[:1000], done.target[:100]
    fields = ["result", "result_sentence", "target"]
    if done.result == "done":
        # It held a password; what was taken over is where it belongs.
        row.record = ""
        fields.append("record")
    row.save(update_fields=fields)


def _close(run: MappingImport, actor: str, stopped: bool) -> None:
    results = Counter(MappingImportRow.objects.filter(run=run).values_list("result", flat=True))
    state = ImportState.PLANNED if stopped else ImportState.DONE
    with transaction.atomic():
        MappingImport.objects.filter(pk=run.pk).update(
            state=state,
            applied_at=timezone.now(),
            error="It was stopped; apply it again to go on." if stopped else "",
        )
        record(
            actor=actor,
            action="import.applied",
            target=run,
            message=f"{counted(results['done'], 'row')} taken over, {results['failed']} failed.",
            after={key or "open": count for key, count in sorted(results.items())},
        )


# Giving back


def import_rejects(run: MappingImport) -> bytes:
    """What could not be taken, with the reasons, as a file that can be mended and imported again. It may hold passwords."""
    return rejects_format.write(_reject(row) for row in reject_rows(run).iterator(chunk_size=500) if row.record)


def reject_rows(run: MappingImport) -> Any:
    """The rows that go into the file of rejects: those that could not be taken, and those that failed."""
    if run.state == ImportState.DISCARDED:
        return MappingImportRow.objects.none()
    rows = MappingImportRow.objects.filter(run=run).order_by("number")
    return rows.filter(Q(action=ImportAction.REJECT) | Q(result="failed"))


def _reject(row: MappingImportRow) -> dict[str, Any]:
    kept = json.loads(row.record)
    body = {
        "kind": row.kind,
        "source": row.source,
        "line": row.line,
        "key": kept.get("key", ""),
        "why": row.result_sentence or row.sentence,
    }
    # What was of no known kind may be of one when it comes back mended.
    if row.kind == "unknown":
        body["kind"] = ""
    body["text" if row.kind == BROKEN else "record"] = kept.get("raw")
    return body


def import_discard(*, run: MappingImport, actor: str) -> None:
    """Forget an import's texts and secrets. What was taken over stays. Raises ``ImportRefused`` while it is applied."""
    with transaction.atomic():
        changed = (
            MappingImport.objects.filter(pk=run.pk)
            .exclude(state__in=[ImportState.APPLYING, ImportState.DISCARDED])
            .update(state=ImportState.DISCARDED)
        )
        if not changed:
            run.refresh_from_db()
            if run.state == ImportState.DISCARDED:
                return
            raise ImportRefused("This import is being applied. Cancel its job first, or wait for its end.")
        MappingImportRow.objects.filter(run=run).update(record="")
        record(actor=actor, action="import.discarded", target=run)
    run.refresh_from_db()


def prune_imports(*, keep_days: int = 30) -> int:
    """Forget the secrets of imports that nobody has touched for so long; what waited is discarded. Returns how many."""
    before = timezone.now() - timedelta(days=keep_days)
    old = MappingImport.objects.filter(created_at__lt=before).exclude(
        state__in=[ImportState.APPLYING, ImportState.DISCARDED]
    )
    found = list(old.exclude(applied_at__gte=before).only("pk", "state")[:100])
    for run in found:
        import_discard(run=run, actor="system")
    return len(found)
