"""Imports of mappings between reading and forgetting: conflicts decided, what could not be taken given back as a file, secrets let go."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from agents.importing.formats import rejects as rejects_format
from agents.importing.records import BROKEN
from agents.models import ImportAction, ImportChoice, ImportState, MappingImport, MappingImportRow
from ops.services.audit import record
from ops.words import counted


class ImportRefused(Exception):
    """What was asked for cannot be done with this import. The text says why, and what to do."""


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
