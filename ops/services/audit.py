"""Writes the audit log, and the versions of what it speaks of; prunes it with a reason."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import structlog
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models, transaction
from django.db.models.query import QuerySet

from ops.history.writing import Deed, note, note_each
from ops.models import AuditEvent, AuditPruning
from ops.redaction import redact, redact_text
from ops.words import counted


def record(
    *,
    actor: str,
    action: str,
    target: models.Model | str | None = None,
    message: str = "",
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> AuditEvent:
    """Add one event, in the caller's transaction: what is rolled back was not done.

    ``actor`` is ``person:<username>``, ``token:<name>``, ``command``, ``system``…; ``action`` is dotted (``service.saved``).
    ``target`` is the row it is about, or a text ``type:id``. Secrets in ``message``, ``before`` and ``after`` are masked. Where the target
    keeps versions (``ops.history``), one is written of what it is now.
    """
    event = _event(actor, action, target, message, before, after)
    event.save()
    note(target, Deed(actor, action, message, before))
    return event


def record_each(*, actor: str, action: str, targets: Iterable[tuple[models.Model, str]], versions: bool = True) -> None:
    """One event for each row with its message, in few statements: for what happens to thousands of rows at once.

    ``versions=False``: for rows that begin now; ``ops.history.beginnings`` writes their first versions beside everything else.
    """
    rows = list(targets)
    AuditEvent.objects.bulk_create(
        [_event(actor, action, target, message, None, None) for target, message in rows], batch_size=500
    )
    if versions:
        note_each((target, Deed(actor, action, message)) for target, message in rows)


def _event(
    actor: str,
    action: str,
    target: models.Model | str | None,
    message: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
) -> AuditEvent:
    target_type = target_id = target_label = ""
    if isinstance(target, models.Model):
        target_type, target_id, target_label = target._meta.label_lower, str(target.pk), redact_text(str(target))
    elif target:
        target_type, _, target_id = target.rpartition(":")
        target_label = target_id
    return AuditEvent(
        actor=(actor or "system")[:255],
        action=action,
        target_type=target_type[:100],
        target_id=target_id[:255],
        target_label=target_label[:255],
        message=redact_text(message),
        before=storable(before),
        after=storable(after),
        request_id=str(structlog.contextvars.get_contextvars().get("request_id", ""))[:64],
    )


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Only what differs, on both sides: what ``record`` wants as ``before`` and ``after``."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return {n: before[n] for n in names if n in before}, {n: after[n] for n in names if n in after}


def storable(value: Mapping[str, Any] | None) -> Any:
    """A redacted copy that JSON can hold."""
    if value is None:
        return None
    return json.loads(json.dumps(redact(value), cls=DjangoJSONEncoder))


def prune(*, actor: str, older_than: datetime, reason: str) -> int:
    """Delete events from before ``older_than``; returns how many. Needs a reason, and leaves an event that says so."""
    if not reason.strip():
        raise ValueError("Pruning the audit log needs a reason.")
    with transaction.atomic():
        pruning = AuditPruning.objects.create(
            actor=actor, reason=reason.strip()[:500], older_than=older_than, open=True
        )
        # The model's own queryset refuses to delete; the database lets it through while the pruning row is open.
        deleted, _ = QuerySet(AuditEvent).filter(at__lt=older_than).delete()
        pruning.deleted, pruning.open = deleted, False
        pruning.save(update_fields=["deleted", "open"])
        record(
            actor=actor,
            action="audit.pruned",
            target=pruning,
            message=f"{counted(deleted, 'event')} deleted: {reason.strip()}",
        )
    return deleted
