"""Restores whose process died: before the commit nothing of them is there, and after it the rest is done by whoever comes next."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from ops.choices import FINAL_JOB_STATES
from ops.locks import is_held
from ops.models import JobState
from ops.models.restore import Restore, RestoreState
from ops.services import audit

# A plan that nobody works at any more, and a plan that nobody agreed to: the rows have changed since.
_PLANNING_MINUTES = 120
CANCELLED = "It was cancelled. Nothing was changed."
SENTENCE = "Its process ended while it ran. Nothing was changed: compare again, then apply."


def settle(lock: str, *, but: Restore | None = None) -> int:
    """Mark dead restores as failed. One that ``but`` names is left; so are those whose job is started again by itself."""
    dead = Restore.objects.filter(state=RestoreState.APPLYING)
    if but is None and is_held(lock):
        dead = dead.none()
    limit = timezone.now() - timedelta(minutes=_PLANNING_MINUTES)
    # Without a job (a command that was killed) only time tells.
    ended = Q(job__state__in=FINAL_JOB_STATES) | Q(created_at__lt=limit)
    forgotten = Restore.objects.filter(ended, state=RestoreState.PLANNING)
    count = 0
    for restore in [*dead.select_related("job"), *forgotten.select_related("job")]:
        if but is not None and restore.pk == but.pk:
            continue
        if restore.job is not None and restore.job.state in (JobState.QUEUED, JobState.RUNNING):
            continue
        cancelled = restore.job is not None and restore.job.state == JobState.CANCELLED
        state, sentence = (RestoreState.DISCARDED, CANCELLED) if cancelled else (RestoreState.FAILED, SENTENCE)
        count += end(restore, (restore.state,), state, sentence, actor="system")
    return count


def end(restore: Restore, before: Collection[str], state: str, sentence: str, *, actor: str) -> bool:
    """Note that a restore ended before its rows were committed, with its audit event. False: it is in none of the states ``before`` any more."""
    with transaction.atomic():
        changed = Restore.objects.filter(pk=restore.pk, state__in=before).update(
            state=state, error=sentence[:1000], finished_at=timezone.now()
        )
        if changed:
            audit.record(actor=actor, action=f"restore.{state}", target=restore, message=sentence[:1000])
    return bool(changed)
