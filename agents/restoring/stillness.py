"""A sync makes rooms and rows as it goes: one that is under way is waited for when everything is to stand still."""

from __future__ import annotations

from django.utils import timezone

from agents.models import SyncRun, SyncState
from ops.quiet import register_drain


def under_way() -> int:
    """Runs whose lease lasts."""
    return SyncRun.objects.filter(state=SyncState.RUNNING, lease_until__gte=timezone.now()).count()


register_drain("running syncs", under_way, needed=True)
