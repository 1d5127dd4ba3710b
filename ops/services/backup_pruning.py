"""Removes copies that retention does not keep: planned first, shown, then done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db import transaction
from django.utils import timezone

from ops.backup import spool
from ops.backup.errors import DestinationFailed
from ops.backup.retention import Kept, Known, Verdict, verdicts
from ops.findings import Finding
from ops.logs import get_logger
from ops.models.backup import Backup, BackupCopy, BackupDestination, BackupReason, BackupState, CopyState
from ops.redaction import redact_text
from ops.services import audit
from ops.services.backup_copies import remove_copy, settle_state

logger = get_logger(__name__)

# A row whose copies are all gone still says for so long that there was a backup.
ROWS_KEPT = timedelta(days=90)


@dataclass(slots=True)
class Pruning:
    """What goes and what stays: ``{destination: [Verdict]}``. ``freed`` are bytes; ``findings`` say what did not work."""

    plan: dict[str, list[Verdict]] = field(default_factory=dict)
    removed: int = 0
    freed: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def going(self) -> list[tuple[str, Verdict]]:
        return [(name, verdict) for name, found in self.plan.items() for verdict in found if verdict.goes]

    def to_dict(self) -> dict[str, Any]:
        """JSON: ``{plan: {destination: [{name, made_at, size, goes, why}]}, removed, freed, findings}``."""
        return {
            "plan": {
                name: [
                    {
                        "name": one.copy.name,
                        "made_at": one.copy.made_at.isoformat(),
                        "size": one.copy.size,
                        "goes": one.goes,
                        "why": one.why,
                    }
                    for one in found
                ]
                for name, found in self.plan.items()
            },
            "removed": self.removed,
            "freed": self.freed,
            "findings": [finding.to_dict() for finding in self.findings],
        }


def prune(*, dry_run: bool, actor: str, destination: BackupDestination | None = None) -> Pruning:
    """Remove what the rules of each destination do not keep; ``dry_run`` only says it. One destination that fails leaves the others."""
    pruning = Pruning()
    rows = BackupDestination.objects.filter(enabled=True)
    for row in rows.filter(pk=destination.pk) if destination is not None else rows:
        copies = {
            copy.backup.name: copy
            for copy in BackupCopy.objects.filter(destination=row, state=CopyState.STORED)
            .select_related("backup", "destination")
            .defer("backup__manifest", "backup__parts")
        }
        pruning.plan[row.name] = plan_for(row, copies.values())
        if dry_run:
            continue
        for verdict in pruning.plan[row.name]:
            if verdict.goes:
                _remove(copies[verdict.copy.name], verdict, pruning, actor)
    if not dry_run:
        _forget_rows()
    return pruning


def plan_for(row: BackupDestination, copies: Iterable[BackupCopy]) -> list[Verdict]:
    """The verdicts about a destination's copies. The last good one of all is kept wherever it lies."""
    from ops.services.backup_schedule import plan as present_plan
    from ops.services.backups import last_good

    good = last_good()
    ours = spool.installation()
    known = [
        Known(
            name=copy.backup.name,
            made_at=copy.backup.made_at,
            size=copy.size,
            ours=copy.backup.installation in ("", ours),
            pinned=copy.backup.pinned or (good is not None and good.pk == copy.backup_id),
            good=copy.backup.good_at is not None,
            well=not copy.backup.verify_error,
            safety=copy.backup.reason == BackupReason.SAFETY,
        )
        for copy in copies
    ]
    rules = Kept(row.keep_last, row.keep_daily, row.keep_weekly, row.keep_monthly)
    found = verdicts(known, rules, now=timezone.now(), zone=ZoneInfo(present_plan().timezone))
    return [
        Verdict(one.copy, one.goes, "the last good one")
        if good is not None and one.copy.name == good.name and one.why == "pinned" and not good.pinned
        else one
        for one in found
    ]


def _remove(copy: BackupCopy, verdict: Verdict, pruning: Pruning, actor: str) -> None:
    from ops.services.backups import last_good

    # Asked again for each: somebody may have pinned it, or a drill may have ended, since the plan was made.
    backup, good = Backup.objects.get(pk=copy.backup_id), last_good()
    if backup.pinned or (good is not None and good.pk == backup.pk):
        return
    try:
        remove_copy(copy)
    except DestinationFailed as error:
        pruning.findings.append(
            Finding("error", "backup.prune_failed", redact_text(str(error)), f"backup:{copy.backup.name}")
        )
        return
    pruning.removed += 1
    pruning.freed += copy.size
    with transaction.atomic():
        audit.record(
            actor=actor,
            action="backup.pruned",
            target=backup,
            message=verdict.why,
            after={"destination": copy.destination.name},
        )
    settle_state(backup)
    _drop_here(backup)


def _drop_here(backup: Backup) -> None:
    """The file in the folder where it was made, when no copy counts on it any more."""
    waiting = [CopyState.STORED, CopyState.WAITING, CopyState.FAILED, CopyState.MISSING]
    if not BackupCopy.objects.filter(backup=backup, state__in=waiting).exists():
        spool.path_of(backup.name).unlink(missing_ok=True)


def _forget_rows() -> None:
    """Rows that have no copy any more, and failed runs, when they are old. The audit log keeps what happened."""
    limit = timezone.now() - ROWS_KEPT
    with_copies = BackupCopy.objects.exclude(state=CopyState.PRUNED).values("backup_id")
    old = Backup.objects.filter(made_at__lt=limit, pinned=False).exclude(pk__in=with_copies)
    old.exclude(state=BackupState.RUNNING).delete()
