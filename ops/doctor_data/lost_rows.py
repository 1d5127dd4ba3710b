"""Has something gone that a backup still has? And does a restore wait for somebody to finish it?"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.db.models import Q
from django.utils import timezone

from ops.backup.scopes import scope_of
from ops.models import AuditEvent
from ops.models.backup import Backup
from ops.models.restore import Restore, RestoreState
from ops.registry import CheckOutcome, Fix, register_check
from ops.services import backups
from ops.words import counted, verb

RESTORE = "recovery.restore"
# What nobody loses a good part of without having removed it through Switchboard, which the audit log would say.
_MAIN = ("ops.Service", "chat.Person", "agents.Agent", "agents.Account", "agents.Room", "agents.Mapping")
# So much of a table is no loss of a row or two.
_SHARE, _MANY = 0.2, 20
# Whoever applies a restore finishes it within so long.
_UNFINISHED = timedelta(minutes=15)


@dataclass(slots=True)
class Losses:
    """``lost``: {model: {"label", "kind", "there", "here"}}; ``unfinished``: restores whose rows are in and whose rest is not done."""

    backup: Backup | None
    lost: dict[str, dict[str, Any]] = field(default_factory=dict)
    unfinished: list[Restore] = field(default_factory=list)

    @property
    def kinds(self) -> list[str]:
        return sorted({said["kind"] for said in self.lost.values()})


def look() -> Losses:
    """Compare the last good backup (the newest, when none is good) with what is here, by numbers. A few counting queries."""
    backup = backups.last_good() or backups.newest()
    limit = timezone.now() - _UNFINISHED
    unfinished = Restore.objects.filter(state=RestoreState.RECONCILING, applied_at__lt=limit)
    losses = Losses(backup, unfinished=list(unfinished.order_by("-applied_at")[:5]))
    # Whoever reset or restored something since wanted what is here.
    if backup is None or _meant(backup):
        return losses
    tables = backup.manifest.get("tables") or {}
    for label in _MAIN:
        there, scope = int((tables.get(label) or {}).get("rows") or 0), scope_of(label)
        model = apps.get_model(label)
        here = model._base_manager.count() if there else 0
        missing = there - here
        if missing <= 0 or not (here == 0 or missing >= max(1, there * _SHARE) or missing >= _MANY):
            continue
        if missing > _removed(model._meta.label_lower, backup):
            losses.lost[label] = {
                "label": str(model._meta.verbose_name_plural),
                "kind": scope.kind if scope is not None else "",
                "there": there,
                "here": here,
            }
    return losses


def _meant(backup: Backup) -> bool:
    since = AuditEvent.objects.filter(at__gt=backup.made_at)
    return since.filter(
        Q(action__in=("reset.applied", "restore.applied")) | Q(action__startswith="homeserver.")
    ).exists()


def _removed(label: str, backup: Backup) -> int:
    """How many of them somebody removed since, through Switchboard."""
    ends = Q(action__endswith=".deleted") | Q(action__endswith=".removed") | Q(action__endswith=".merged")
    return AuditEvent.objects.filter(ends, at__gt=backup.made_at, target_type=label).count()


@register_check(
    RESTORE,
    title="Nothing has gone that a backup still has",
    tags=("backup", "data"),
    interval=600,
    severity="error",
    depends_on=("db.reachable",),
    repairs=("recovery.restore",),
)
def lost() -> CheckOutcome:
    """Red: a good part of the agents, rooms, people or services of the last good backup is gone, and nobody removed it; or a restore was cut
    off after its rows were in."""
    losses = look()
    evidence: dict[str, Any] = {
        "backup": losses.backup.name if losses.backup is not None else None,
        "lost": losses.lost,
        "unfinished": [{"restore": str(one.pk), "source": one.source} for one in losses.unfinished],
    }
    if losses.unfinished:
        one = losses.unfinished[0]
        return CheckOutcome(
            "fail",
            f"The restore of {one.source} was cut off after its rows were in: files and the look at the outside are missing.",
            evidence,
            fix=Fix("recovery.restore"),
        )
    if losses.lost:
        assert losses.backup is not None
        said = " and ".join(
            f"{counted(one['there'] - one['here'], 'row')} of {one['there']:,} {one['label']}"
            for one in losses.lost.values()
        )
        number = sum(one["there"] - one["here"] for one in losses.lost.values())
        return CheckOutcome(
            "fail",
            f"{said} that the backup {losses.backup.name} has {verb(number, 'is', 'are')} gone, and nobody removed {verb(number, 'it', 'them')} "
            "through Switchboard.",
            evidence,
            fix=Fix("recovery.restore"),
        )
    if losses.backup is None:
        return CheckOutcome("pass", "There is no backup to compare with yet.", evidence)
    return CheckOutcome("pass", f"Nothing is missing that {losses.backup.name} has.", evidence)
