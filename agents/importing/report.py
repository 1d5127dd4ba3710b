"""An import as JSON: for the command line and for the interface."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from agents.models import ImportAction, ImportChoice, MappingImport, MappingImportRow


def row_dict(row: MappingImportRow) -> dict[str, Any]:
    """One row, without its secrets."""
    return {
        "id": row.pk,
        "number": row.number,
        "source": row.source,
        "line": row.line,
        "kind": row.kind,
        "key": row.key,
        "label": row.label,
        "action": str(row.action),
        "code": row.code,
        "sentence": row.sentence,
        "stored": row.stored,
        "file": row.file,
        "homeserver": row.homeserver,
        "choice": str(row.choice),
        "result": row.result,
        "result_sentence": row.result_sentence,
        "target": row.target,
    }


def is_open(row: MappingImportRow) -> bool:
    """Whether somebody has to decide about the row."""
    return row.action == ImportAction.CONFLICT and row.choice == ImportChoice.NONE


def report_of(
    run: MappingImport, rows: Sequence[MappingImportRow], *, dry_run: bool = False, rejects_file: str = ""
) -> dict[str, Any]:
    """The whole import: counts by action, by kind and action, every row."""
    kinds: dict[str, Counter[str]] = {}
    for row in rows:
        kinds.setdefault(row.kind, Counter())[str(row.action)] += 1
    results = Counter(row.result for row in rows)
    return {
        "id": run.pk,
        "state": str(run.state),
        "dry_run": dry_run,
        "sources": run.sources,
        "counts": run.counts,
        "kinds": {kind: dict(counts) for kind, counts in kinds.items()},
        "findings": run.findings,
        "rows": [row_dict(row) for row in rows],
        "done": results["done"],
        "kept": results["kept"],
        "failed": results["failed"],
        "unchanged": sum(row.action == ImportAction.UNCHANGED for row in rows),
        "rejected": sum(row.action == ImportAction.REJECT for row in rows),
        "undecided": sum(is_open(row) for row in rows),
        "rejects_file": rejects_file,
        "error": run.error,
    }
