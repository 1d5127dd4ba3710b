"""Forgetting what only explains the recent past."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from chat.models import RefusedEvent


def prune_refused(*, keep_days: int = 14) -> int:
    """Forget notes about refused events. Returns how many."""
    return RefusedEvent.objects.filter(at__lt=timezone.now() - timedelta(days=keep_days)).delete()[0]
