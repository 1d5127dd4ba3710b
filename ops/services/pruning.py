"""Deletes what has outlived its use: check history, answers kept for repeats, dead workers, forgotten locks."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.db.models import Q
from django.utils import timezone

from ops import retention
from ops.models import CheckResult, NamedLock
from ops.processes import services as processes
from ops.services import heartbeats, idempotency, logbook, sightings
from ops.uptime import PULSE

CHECK_RESULTS_KEPT = timedelta(days=14)
# Changes are few, and the board's longest window is made from them (``retention.results.days``); of its pulse it needs the samples as well.
PULSE_KEPT = timedelta(days=32)
LOCKS_KEPT = timedelta(days=30)


def prune() -> dict[str, int]:
    """Returns how many rows went, by name. The audit log is never pruned here: that needs a person's reason."""
    now = timezone.now()
    return {
        "check_results": old_check_results(now).delete()[0],
        "idempotency_records": idempotency.prune(),
        "heartbeats": heartbeats.prune(),
        "processes": processes.prune(),
        **logbook.prune(),
        **retention.purge_automatic(),
        "sightings": sightings.prune(),
        "locks": NamedLock.objects.filter(expires_at__lt=now - LOCKS_KEPT).delete()[0],
    }


def old_check_results(now: datetime) -> models.QuerySet[CheckResult]:
    """Samples that pages no longer show; how long the rest is kept says retention (``results``)."""
    samples = Q(at__lt=now - CHECK_RESULTS_KEPT, changed=False) & ~Q(check_id=PULSE)
    pulse = Q(at__lt=now - PULSE_KEPT, changed=False)
    return CheckResult.objects.filter(samples | pulse)
