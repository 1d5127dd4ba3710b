"""Everything by which a person is signed in now."""

from __future__ import annotations

from typing import Any

from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session
from django.utils import timezone

from chat.models import Person, ProgramLogin
from ops.models import ApiToken


def sessions_of(row: Person, *, own: str = "") -> list[dict[str, Any]]:
    """Everything by which the person is signed in now: browsers, programs, tokens; the latest first."""
    now = timezone.now()
    browsers = list(UserSession.objects.filter(user=row).order_by("-last_seen_at")[:200])
    live = set(
        Session.objects.filter(session_key__in=[one.session_key for one in browsers], expire_date__gt=now).values_list(
            "session_key", flat=True
        )
    )
    found = [
        {
            "kind": "browser", "key": str(one.pk), "what": one.user_agent or "A browser", "address": one.ip, "since": one.created_at,
            "seen": one.last_seen_at, "own": one.session_key == own,
        }
        for one in browsers
        if one.session_key in live
    ]  # fmt: skip
    logins = ProgramLogin.objects.filter(person=row, revoked_at=None, expires_at__gt=now, epoch=row.access_epoch)[:200]
    found += [
        {
            "kind": "program", "key": str(one.pk), "what": one.user_agent or "A program", "address": one.address,
            "since": one.created_at, "seen": one.last_used_at, "own": False,
        }
        for one in logins
    ]  # fmt: skip
    tokens = ApiToken.objects.filter(owner=row, revoked_at=None).order_by("-id")[:200]
    found += [
        {
            "kind": "token", "key": str(one.pk), "what": f"{one.name} (swb_{one.prefix}…)", "address": "", "since": one.created_at,
            "seen": one.last_used_at, "own": False,
        }
        for one in tokens
        if one.is_usable(now)
    ]  # fmt: skip
    return sorted(found, key=lambda one: one["seen"] or one["since"], reverse=True)
