"""Brings Portagent's people, invitations and conversations over: plans, applies, reports row by row; a second run changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models import CharField, Exists, OuterRef, QuerySet
from django.db.models.functions import Cast

from agents.models import Agent
from chat.models import Conversation, ImportedRow, Participant, ParticipantKind, Person
from chat.portagent.apply import TRANSPORT, Applier
from chat.portagent.databases import Databases, NotPortagent
from chat.portagent.here import Database
from chat.portagent.plan import Step, Wishes, plan
from chat.portagent.rejects import Rejects, RejectsFile, is_rejects
from chat.portagent.rows import IMAGE, SOURCE, SYSTEM, Source, SourceRow
from ops.findings import Finding
from ops.locks import named_lock
from ops.services.audit import record
from ops.words import counted

__all__ = ["ImportReport", "NotPortagent", "imported_agent_choose", "portagent_import"]

# Findings that are kept in the report; all of them are told one by one.
_MOST_KEPT = 1000
_ACTIONS = ("create", "unchanged", "changed", "reject")


@dataclass(slots=True)
class ImportReport:
    """What an import did, or (``dry_run``) would do. ``counts``: action → kind → rows; ``findings`` from warning upwards, the first thousand."""

    dry_run: bool
    found: dict[str, str] = field(default_factory=dict)
    counts: dict[str, Counter[str]] = field(default_factory=lambda: {action: Counter() for action in _ACTIONS})
    findings: list[Finding] = field(default_factory=list)
    rejects: int = 0
    rejects_path: str = ""
    read_only: int = 0
    stopped: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON shape."""
        return {
            "dry_run": self.dry_run,
            "found": self.found,
            "counts": {action: dict(counter) for action, counter in self.counts.items()},
            "rejects": self.rejects,
            "rejects_file": self.rejects_path,
            "read_only_conversations": self.read_only,
            "stopped": self.stopped,
            "findings": [finding.to_dict() for finding in self.findings],
        }


def portagent_import(
    *,
    path: Path,
    dry_run: bool = False,
    agent: Agent | None = None,
    wishes: Wishes | None = None,
    rejects: Path | None = None,
    on_finding: Callable[[Finding], None] = lambda finding: None,
    progress: Callable[[int], None] = lambda done: None,
    should_stop: Callable[[], bool] = lambda: False,
    actor: str,
) -> ImportReport:
    """Import a folder, a database or a file of rejects. ``agent`` answers the conversations from now on; without one they can be read only.

    Every row is told to ``on_finding``. Raises ``NotPortagent``, and ``LockHeld`` while another import runs.
    """
    if rejects is not None and rejects.exists() and path.exists() and rejects.samefile(path):
        raise NotPortagent("Write rejects to another file than the one that is read.")
    source: Source = Rejects(path) if path.is_file() and is_rejects(path) else Databases(path)
    report = ImportReport(dry_run, found=dict(getattr(source, "found", {})))
    try:
        if dry_run:
            _run(source, report, wishes or Wishes(), RejectsFile(None), None, on_finding, progress, should_stop)
            return report
        with named_lock("portagent.import", ttl=120), _rejects_to(rejects) as out:
            said = partial(_tell_file, report, out, on_finding)
            applier = Applier(agent=agent, actor=actor, file_rejected=said)
            _run(source, report, wishes or Wishes(), out, applier, on_finding, progress, should_stop)
            if agent is not None:
                imported_agent_choose(agent=agent, actor=actor)
            report.rejects, report.rejects_path = out.count, str(out.path) if out.path and out.count else ""
            report.read_only = _imported_conversations().filter(agent=None).count()
            record(
                actor=actor,
                action="portagent.imported",
                target="import:portagent",
                message=f"{counted(sum(report.counts['create'].values()), 'row')} imported, {counted(report.rejects, 'reject')}.",
                after={action: dict(counter) for action, counter in report.counts.items()},
            )
    finally:
        source.close()
    return report


@contextmanager
def _rejects_to(path: Path | None) -> Iterator[RejectsFile]:
    out = RejectsFile(path)
    try:
        yield out
    finally:
        out.close()


def _run(
    source: Source,
    report: ImportReport,
    wishes: Wishes,
    out: RejectsFile,
    applier: Applier | None,
    on_finding: Callable[[Finding], None],
    progress: Callable[[int], None],
    should_stop: Callable[[], bool],
) -> None:
    done = 0
    for step in plan(source, Database(), wishes):
        if should_stop():
            report.stopped = True
            break
        if step.action == "reject":
            finding = step.findings[0]
            out.write(step.row, finding.code, finding.sentence)
        gone = applier.take(step) if applier is not None else ""
        if not gone:
            _count(step, report)
        for finding in step.findings:
            _tell(finding, report, on_finding)
        if gone:
            _tell(Finding("info", "portagent.gone", gone, f"{step.row.kind}:{step.row.key}"[:255]), report, on_finding)
        done += step.count
        progress(done)
    if applier is not None:
        applier.flush()
    report.rejects = out.count


def _count(step: Step, report: ImportReport) -> None:
    if step.action in report.counts:
        report.counts[step.action][step.row.kind] += step.count


def _tell(finding: Finding, report: ImportReport, on_finding: Callable[[Finding], None]) -> None:
    on_finding(finding)
    if finding.severity != "info" and len(report.findings) < _MOST_KEPT:
        report.findings.append(finding)


def _tell_file(
    report: ImportReport, out: RejectsFile, on_finding: Callable[[Finding], None], row: SourceRow, sentence: str
) -> None:
    out.write(row, "portagent.file_refused", sentence)
    report.counts["reject"][row.kind] += 1
    _tell(Finding("error", "portagent.file_refused", sentence, f"{row.kind}:{row.key}"[:255]), report, on_finding)


def imported_agent_choose(*, agent: Agent, person: Person | None = None, actor: str) -> int:
    """Let an agent answer the imported conversations (of one person) that nobody answers yet. Returns how many."""
    with transaction.atomic():
        rows = _imported_conversations().filter(agent=None)
        if person is not None:
            rows = rows.filter(memberships__person=person)
        chosen = list(rows.values_list("pk", flat=True))
        for begin in range(0, len(chosen), 400):
            some = chosen[begin : begin + 400]
            Conversation.objects.filter(pk__in=some, agent=None).update(agent=agent)
            # What Portagent's agent said stays its own, under the name that people know from now on.
            Participant.objects.filter(
                conversation_id__in=some, kind=ParticipantKind.AGENT, external_id=TRANSPORT
            ).update(name=agent.name[:255])
        if chosen:
            record(
                actor=actor,
                action="portagent.agent_chosen",
                target=agent,
                message=f"{counted(len(chosen), 'imported conversation')}.",
            )
    return len(chosen)


def _imported_conversations() -> QuerySet[Conversation]:
    imported = ImportedRow.objects.filter(
        system=SYSTEM,
        source=SOURCE,
        kind=IMAGE,
        target="chat.Conversation",
        target_id=Cast(OuterRef("pk"), CharField()),
    )
    return Conversation.objects.filter(Exists(imported))
