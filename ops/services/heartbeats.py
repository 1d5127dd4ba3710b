"""Stamps signs of life."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from ops.leases import WORKER
from ops.models import Heartbeat

_STARTED = timezone.now()


def stamp() -> None:
    """This worker is alive now."""
    fields: dict[str, Any] = {"seen_at": timezone.now()}
    if not Heartbeat.objects.filter(pk=WORKER).update(**fields):
        Heartbeat.objects.update_or_create(name=WORKER, defaults={**fields, "started_at": _STARTED})


def prune() -> int:
    """Forget workers that were last seen more than a day ago; returns how many."""
    return Heartbeat.objects.filter(seen_at__lt=timezone.now() - timedelta(days=1)).delete()[0]
