"""Restores whose process died: before the commit nothing of them is there, and after it the rest is done by whoever comes next."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from ops.locks import is_held
from ops.models import JobState
from ops.models.restore import Restore, RestoreState
from ops.services import audit

# A plan that nobody works at any more, and a plan that nobody agreed to: the rows have changed since.
_PLANNING_MINUTES = 120
SENTENCE = "Its process ended while it ran. Nothing was changed: compare again, then apply."


def settle(lock: str, *, but: Restore | None = None) -> int:
    """Mark dead restores as failed. One that ``but`` names is left; so are those whose job is started again by itself."""
    dead = Restore.objects.filter(state=RestoreState.APPLYING)
    if but is None and is_held(lock):
        dead = dead.none()
    limit = timezone.now() - timedelta(minutes=_PLANNING_MINUTES)
    forgotten = Restore.objects.filter(state=RestoreState.PLANNING, created_at__lt=limit)
    count = 0
    for restore in [*dead, *forgotten]:
        if but is not None and restore.pk == but.pk:
            continue
        if restore.job is not None and restore.job.state in (JobState.QUEUED, JobState.RUNNING):
            continue
        with transaction.atomic():
            changed = Restore.objects.filter(pk=restore.pk, state=restore.state).update(
                state=RestoreState.FAILED, error=SENTENCE, finished_at=timezone.now()
            )
            if changed:
                audit.record(actor="system", action="restore.failed", target=restore, message=SENTENCE)
                count += 1
    return count
