"""What operators say about issues: seen, later, not before the next release. Nobody can say "fixed"; only the check can."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from ops.choices import IssueState
from ops.models import Issue
from ops.services import audit


def issue_acknowledge(*, issue: Issue, actor: str, note: str = "") -> Issue:
    """Somebody has seen it: it stays open, and nobody is reminded. Raises ``ValidationError`` when it has been resolved."""
    return _set(issue, actor, "issue.acknowledged", IssueState.ACKNOWLEDGED, note)


def issue_snooze(*, issue: Issue, actor: str, until: datetime, note: str = "") -> Issue:
    """Hide it until then; it comes back by itself. Raises ``ValidationError`` for a time that has passed."""
    if until <= timezone.now():
        raise ValidationError({"until": ["Snooze until a time that is still to come."]})
    return _set(issue, actor, "issue.snoozed", IssueState.SNOOZED, note, snoozed_until=until)


def issue_ignore(*, issue: Issue, actor: str, note: str = "") -> Issue:
    """Hide it until another version of Switchboard runs."""
    return _set(issue, actor, "issue.ignored", IssueState.IGNORED, note, ignored_in=settings.VERSION)


def issue_reopen(*, issue: Issue, actor: str, note: str = "") -> Issue:
    """Take back an acknowledgement, a snooze or an ignore."""
    return _set(issue, actor, "issue.reopened", IssueState.OPEN, note)


def _set(issue: Issue, actor: str, action: str, state: IssueState, note: str, **fields: Any) -> Issue:
    note = note.strip()
    if len(note) > 500:
        raise ValidationError({"note": ["A note has at most 500 characters."]})
    changed = {
        "state": state,
        "handled_by": actor[:255],
        "handled_at": timezone.now(),
        "note": note,
        "snoozed_until": None,
        "ignored_in": "",
        **fields,
    }
    with transaction.atomic():
        before = issue.state
        rows = Issue.objects.filter(pk=issue.pk).exclude(state__in=(IssueState.RESOLVED, IssueState.FIXING))
        if not rows.update(**changed):
            issue.refresh_from_db()
            if issue.state == IssueState.FIXING:
                raise ValidationError("It is being repaired at this moment; wait until that has ended.")
            raise ValidationError("It has been resolved already: its check passes.")
        audit.record(
            actor=actor,
            action=action,
            target=issue,
            message=note,
            before={"state": before},
            after={"state": str(state)},
        )
    issue.refresh_from_db()
    return issue
