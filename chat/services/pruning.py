"""Forgetting what only explains the recent past."""

from __future__ import annotations

from datetime import timedelta

from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session
from django.db.models import Exists, OuterRef
from django.utils import timezone

from chat.models import RefusedEvent


def prune_refused(*, keep_days: int = 14) -> int:
    """Forget notes about refused events. Returns how many."""
    return RefusedEvent.objects.filter(at__lt=timezone.now() - timedelta(days=keep_days)).delete()[0]


def prune_sessions() -> int:
    """Forget sessions of browsers that expired, and what was noted about them. Returns how many sessions."""
    expired = Session.objects.filter(expire_date__lt=timezone.now()).delete()[0]
    # A browser that has just signed in may have its note a moment before its session.
    settled = timezone.now() - timedelta(hours=1)
    UserSession.objects.filter(
        ~Exists(Session.objects.filter(session_key=OuterRef("session_key"))), last_seen_at__lt=settled
    ).delete()
    return expired
