"""``mapping.import_invalid``: a file of mappings was broken or holds records that cannot be taken. ``mapping.import`` takes the others."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from agents.matrix.errors import MatrixError
from agents.models import ImportAction, ImportState, MappingImport, MappingImportRow
from agents.services.backends import NoHomeserver
from agents.services.import_applying import import_apply
from agents.services.imports import ImportRefused
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairWork, register_repair
from ops.locks import LockHeld
from ops.registry import Affected, CheckOutcome, register_check
from ops.words import counted

MOST = 20


def waiting() -> QuerySet[MappingImport]:
    """Imports that were read and wait, the newest first."""
    return MappingImport.objects.filter(state=ImportState.PLANNED).order_by("-id")


def trouble_of(run: MappingImport) -> list[dict[str, Any]]:
    """Findings of an import that concern a file as a whole: broken, cut off, not JSON."""
    return [finding for finding in run.findings if finding.get("severity") in {"error", "critical"}]


def is_bad(run: MappingImport) -> bool:
    """Whether something in its files cannot be taken."""
    return bool(trouble_of(run) or (run.counts or {}).get(str(ImportAction.REJECT)))


@register_check(
    "mapping.import_invalid",
    title="Files of mappings can be read",
    tags=["agents", "data"],
    interval=60,
    severity="error",
    depends_on=["db.reachable"],
    repairs=["mapping.import"],
)
def import_invalid() -> CheckOutcome:
    """Looks at imports that were read and are not applied yet: what is broken in them stands with file, line and column."""
    bad = [run for run in waiting()[:MOST] if is_bad(run)]
    if not bad:
        return CheckOutcome("pass", "No file of mappings waits that could not be read.")
    first = bad[0]
    findings = trouble_of(first)
    evidence = dict(findings[0].get("evidence") or {}) if findings else {}
    rejected = sum((run.counts or {}).get(str(ImportAction.REJECT), 0) for run in bad)
    words = findings[0]["sentence"] if findings else _first_reject(first)
    what_next = (
        f"{counted(rejected, 'record')} of {counted(len(bad), 'import')} cannot be taken; all others can. Take these, download the rejects, "
        "mend them and import them again."
        if rejected
        else "Close the import, and read the right file."
    )
    return CheckOutcome(
        "fail",
        f"{words} {what_next}",
        {"imports": len(bad), "rejected": rejected, "file": "", "line": None, **evidence},
        affected=tuple(
            Affected(f"mappingimport:{run.pk}", f"Import {run.pk} of {_names(run)}.", {"counts": run.counts})
            for run in bad
        ),
    )


def _names(run: MappingImport) -> str:
    return ", ".join(source["name"] for source in run.sources)[:200] or "nothing"


def _first_reject(run: MappingImport) -> str:
    row = MappingImportRow.objects.filter(run=run, action=ImportAction.REJECT).order_by("number").first()
    if row is None:
        return ""
    line = f", line {row.line}" if row.line else ""
    return f"{row.source}{line}, {row.label or row.key}: {row.sentence}"


def _wanted(work: RepairWork) -> list[MappingImport]:
    kind, _, key = work.target.partition(":")
    runs = waiting()
    if kind == "mappingimport" and key.isdigit():
        runs = runs.filter(pk=int(key))
    return [run for run in runs[:MOST] if is_bad(run)]


def plan(work: RepairWork) -> Plan:
    """What would be taken of each import; undecided conflicts and rejects are left."""
    runs = _wanted(work)
    changes: list[Change] = []
    taken = 0
    for run in runs:
        rows = MappingImportRow.objects.filter(run=run, action__in=[ImportAction.CREATE, ImportAction.UPDATE])
        taken += rows.count()
        changes.append(Change(f"mappingimport:{run.pk}", "state", str(run.state), str(ImportState.DONE)))
        changes += [
            Change(f"{row.kind}:{row.key}", row.label or row.kind, None, row.sentence)
            for row in rows.order_by("number")[:100]
        ]
    rejected = sum((run.counts or {}).get(str(ImportAction.REJECT), 0) for run in runs)
    sentence = (
        f"{counted(taken, 'record is', 'records are')} taken; {counted(rejected, 'stays', 'stay')} in the file of rejects of the import, "
        "which can be mended and imported again."
        if runs
        else "No import waits that could not be read."
    )
    return Plan(sentence, tuple(changes), {"runs": [run.pk for run in runs]})


def apply(work: RepairWork) -> dict[str, Any]:
    """Each import as a person would apply it."""
    done = failed = 0
    pks = work.plan.data["runs"]
    for number, pk in enumerate(pks, start=1):
        run = MappingImport.objects.filter(pk=pk).first()
        if run is None:
            continue
        try:
            run = import_apply(run=run, actor=work.actor)
        except (MatrixError, NoHomeserver) as error:
            raise RepairFailed(error.sentence) from error
        except (ImportRefused, LockHeld) as error:
            raise RepairFailed(str(error)) from error
        done += run.rows.filter(result="done").count()
        failed += run.rows.filter(result="failed").count()
        work.progress(number, len(pks), _names(run))
    return {"taken": done, "failed": failed}


register_repair(
    "mapping.import",
    title="Take what can be taken of a broken file",
    repair_class="C",
    button="Take the others",
    explain="Takes every whole record of the imports that wait: agents keep the accounts and rooms that they have, nothing is made "
    "a second time. What is broken goes into the import's file of rejects; mended, it is imported again. Conflicts wait for a decision.",
    plan=plan,
    apply=apply,
    target_kinds=("mappingimport",),
    long=True,
)
