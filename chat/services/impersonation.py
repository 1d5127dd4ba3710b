"""Looking at the portal as a person: begun with a reason, ended by anybody who ends the session, seen in the audit log."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from chat import live
from chat.models import Impersonation, Person
from ops.services.audit import record

# A look is short; whoever needs longer says so again.
LASTS = timedelta(minutes=30)


def impersonation_start(
    *, operator: Person, person: Person, session_key: str, reason: str, actor: str
) -> Impersonation:
    """Let an operator's browser session show the portal as a person sees it, for half an hour, reading only.

    Raises ``ValidationError``: without a reason, for another operator, oneself or a closed account, or without a session.
    """
    reason = " ".join(reason.split())[:500]
    if not (operator.is_active and operator.is_staff):
        raise ValidationError("Only an operator may look at the portal as somebody else.")
    if len(reason) < 3:
        raise ValidationError({"reason": ["Say why: the reason stands in the audit log."]})
    if person.is_staff:
        raise ValidationError(f"{person} is an operator. Nobody looks through an operator's eyes.")
    if not person.is_active:
        raise ValidationError(f"{person} is deactivated and sees nothing.")
    if not session_key:
        raise ValidationError("This works in a browser that is signed in, not with a token.")
    now = timezone.now()
    with transaction.atomic():
        for earlier in Impersonation.objects.select_for_update().filter(session_key=session_key, ended_at=None):
            _end(earlier, actor=actor, because="another was begun")
        row = Impersonation.objects.create(
            operator=operator,
            person=person,
            session_key=session_key,
            reason=reason,
            started_at=now,
            expires_at=now + LASTS,
        )
        record(
            actor=actor,
            action="impersonation.started",
            target=person,
            message=reason,
            after={"as": person.get_username(), "until": row.expires_at},
        )
    return row


def impersonation_stop(*, impersonation: Impersonation, actor: str, because: str = "ended") -> bool:
    """End a look; whatever it opened closes within two seconds. False: it was over already."""
    with transaction.atomic():
        row = Impersonation.objects.select_for_update().filter(pk=impersonation.pk, ended_at=None).first()
        if row is None:
            return False
        _end(row, actor=actor, because=because)
    return True


def _end(row: Impersonation, *, actor: str, because: str) -> None:
    row.ended_at = min(timezone.now(), row.expires_at)
    row.ended_because = because[:100]
    row.save(update_fields=["ended_at", "ended_because"])
    record(
        actor=actor,
        action="impersonation.stopped",
        target=row.person,
        message=because,
        after={"seconds": round((row.ended_at - row.started_at).total_seconds())},
    )
    transaction.on_commit(partial(live.publish_person, row.person_id, {"type": "access"}))


def impersonations_expire() -> int:
    """Close the rows of looks whose time is over or whose session is gone, for the record. Returns how many."""
    from django.contrib.sessions.models import Session

    now = timezone.now()
    ended = 0
    for row in Impersonation.objects.filter(ended_at=None).select_related("person")[:1000]:
        lives = Session.objects.filter(session_key=row.session_key, expire_date__gt=now).exists()
        if row.expires_at <= now or not lives:
            because = "its time was over" if row.expires_at <= now else "the operator signed out"
            ended += impersonation_stop(impersonation=row, actor="system", because=because)
    return ended
