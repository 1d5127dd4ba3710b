"""Imports of mappings are applied: row by row, again for those that failed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from django.db import transaction
from django.utils import timezone

from agents.importing.identities import sessions_of
from agents.importing.registry import Part, parts
from agents.importing.work import Done, Task, Work
from agents.models import ImportAction, ImportChoice, ImportState, MappingImport, MappingImportRow
from agents.services.backends import Homeserver, homeserver_of, open_homeserver
from agents.services.imports import ImportRefused
from ops.locks import HeldLock, named_lock
from ops.logs import get_logger
from ops.services.audit import record
from ops.words import counted

log = get_logger(__name__)

LOCK = "mappings.import"


Progress = Callable[[int, int, str], None]


# So many rows are asked about side by side before they are written.
AT_ONCE = 32


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
