"""Who did what, when, to what: rows that are only ever added."""

from __future__ import annotations

from typing import Any, NoReturn

from django.db import models

from ops.words import counted


class AuditIsAppendOnly(TypeError):
    """Somebody tried to change or delete an audit event."""

    def __init__(self) -> None:
        super().__init__("Audit events are never changed or deleted; old ones go through ops.services.audit.prune.")


class AuditQuerySet(models.QuerySet["AuditEvent"]):
    """Reads and inserts; the database's triggers refuse the rest even to raw SQL."""

    def update(self, **kwargs: Any) -> NoReturn:
        raise AuditIsAppendOnly

    def delete(self) -> NoReturn:
        raise AuditIsAppendOnly

    def bulk_update(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise AuditIsAppendOnly


class AuditEvent(models.Model):
    """One action. ``actor`` is a name in text (``person:alice``, ``token:ci``, ``system``), so that the record outlives the person.

    ``before`` and ``after`` hold the fields that changed, secrets masked. ``request_id`` joins it to the log lines.
    """

    at = models.DateTimeField(auto_now_add=True)
    actor = models.CharField(max_length=255)
    action = models.CharField(max_length=100)
    target_type = models.CharField(max_length=100, blank=True)
    target_id = models.CharField(max_length=255, blank=True)
    target_label = models.CharField(max_length=255, blank=True)
    message = models.TextField(blank=True)
    before = models.JSONField(null=True, blank=True)
    after = models.JSONField(null=True, blank=True)
    request_id = models.CharField(max_length=64, blank=True)

    objects = AuditQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        # Related-object and cascade code goes through the base manager: it must refuse as well.
        base_manager_name = "objects"
        indexes = [
            models.Index(fields=["-at"], name="audit_at"),
            models.Index(fields=["target_type", "target_id", "-id"], name="audit_target"),
            models.Index(fields=["actor", "-id"], name="audit_actor"),
            models.Index(fields=["action", "-id"], name="audit_action"),
        ]

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.target_label or self.target_id}".rstrip()

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Inserts only. Raises ``AuditIsAppendOnly`` for a row that exists."""
        if not self._state.adding:
            raise AuditIsAppendOnly
        super().save(*args, **{**kwargs, "force_insert": True})

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise AuditIsAppendOnly


class AuditPruning(models.Model):
    """One removal of old audit events, with its reason. While a row is ``open``, the database's trigger lets deletions through.

    The row is opened and closed within one transaction, so that nobody else ever sees it open.
    """

    at = models.DateTimeField(auto_now_add=True)
    actor = models.CharField(max_length=255)
    reason = models.CharField(max_length=500)
    older_than = models.DateTimeField()
    deleted = models.PositiveIntegerField(default=0)
    open = models.BooleanField(default=False)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{counted(self.deleted, 'event')} before {self.older_than:%Y-%m-%d}: {self.reason}"
