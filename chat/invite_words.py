"""What is true about invitations, in rows and in words; for operators alone."""

from __future__ import annotations

from typing import Any

from django.db.models import F, Q
from django.utils import timezone

from chat.access.registration import mode
from chat.models import Invite
from ops import html
from ops.words import counted


def invites_in(rows: Any, state: str) -> Any:
    """Those of one state, as ``Invite.state`` tells it; all for ""."""
    expired = Q(expires_at__isnull=False, expires_at__lte=timezone.now())
    used_up = Q(max_uses__isnull=False, uses__gte=F("max_uses"))
    if state == "revoked":
        return rows.exclude(revoked_at=None)
    rows = rows.filter(revoked_at=None) if state else rows
    if state == "expired":
        return rows.filter(expired)
    if state == "used_up":
        return rows.exclude(expired).filter(used_up)
    return rows.exclude(expired).exclude(used_up) if state == "open" else rows


def true_state(invite: Invite | None, reason: str) -> str:
    """One sentence with what is true; for operators alone."""
    if invite is None:
        return {
            "ok": "That is Portagent's code of the day, which counts for a transition. Anybody can work it out: give stored invitations instead.",
            "invalid": "That is no code: it has no letters or digits that a code could be made of.",
        }.get(reason, "No invitation has this code. It was mistyped, cut off, or belongs to another installation.")
    if reason == "ok":
        closed = " But registration is closed, so nobody can join now." if mode() == "closed" else ""
        left = (
            "any number of people"
            if invite.max_uses is None
            else counted(invite.max_uses - invite.uses, "more person", "more people")
        )
        return f"It counts: {left} may join by it{', until ' + html.relative(invite.expires_at) if invite.expires_at else ''}.{closed}"
    if reason == "expired" and invite.expires_at is not None:
        return f"It expired {html.relative(invite.expires_at)}. Extend it, and the same link counts again."
    if reason == "used_up":
        return f"It is used up: {counted(invite.uses, 'person has', 'people have')} joined by it. Allow more, and the same link counts again."
    if reason == "revoked" and invite.revoked_at is not None:
        return f"It was revoked {html.relative(invite.revoked_at)} by {invite.revoked_by or 'somebody'}. Bring it back, and it counts again."
    return f"It does not count: {reason}."
