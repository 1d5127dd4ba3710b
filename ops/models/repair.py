"""Runs of repairs: what was planned, what was done, whether it helped, and what undoes it."""

from __future__ import annotations

import uuid

from django.db import models

from ops.choices import Lamp, RepairClass, RepairRunState
from ops.secrets import EncryptedJSONField


class RepairRun(models.Model):
    """One run of one repair on one target: its plan, its receipt, and what undoing it needs.

    ``changes`` is the difference as it was shown: ``[{target, what, before, after}]``, without secrets. ``params`` and
    ``snapshot`` may hold secrets (an old password, a token) and are encrypted.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    repair_id = models.CharField(max_length=100)
    target = models.CharField(max_length=200, blank=True)
    repair_class = models.CharField(max_length=1, choices=RepairClass.choices)
    issue = models.ForeignKey("ops.Issue", null=True, blank=True, on_delete=models.SET_NULL, related_name="repair_runs")
    state = models.CharField(max_length=10, choices=RepairRunState.choices, default=RepairRunState.QUEUED)
    sentence = models.CharField(max_length=1000, blank=True)
    changes = models.JSONField(default=list, blank=True)
    changes_count = models.PositiveIntegerField(default=0)
    params = EncryptedJSONField(default=dict, blank=True, all_secret=False)
    snapshot = EncryptedJSONField(default=dict, blank=True, all_secret=False)
    receipt = models.JSONField(default=dict, blank=True)
    checks_before = models.JSONField(default=dict, blank=True)
    checks_after = models.JSONField(default=dict, blank=True)
    error = models.TextField(blank=True)
    actor = models.CharField(max_length=255)
    worker = models.CharField(max_length=100, blank=True)
    job = models.ForeignKey("ops.Job", null=True, blank=True, on_delete=models.SET_NULL, related_name="repair_runs")
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    undo_until = models.DateTimeField(null=True, blank=True)
    undone_at = models.DateTimeField(null=True, blank=True)
    undone_by = models.CharField(max_length=255, blank=True)

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["repair_id", "target", "-created_at"], name="repair_run_of"),
            models.Index(fields=["state", "-created_at"], name="repair_run_state"),
        ]

    def __str__(self) -> str:
        return f"{self.repair_id} ({self.target})" if self.target else self.repair_id

    @property
    def lamp(self) -> Lamp:
        return RepairRunState(self.state).lamp


class RepairPolicy(models.Model):
    """An operator's word that a repair of class A may run unattended."""

    repair_id = models.CharField(max_length=100, primary_key=True)
    automatic = models.BooleanField(default=False)
    changed_by = models.CharField(max_length=255, blank=True)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "repair policies"

    def __str__(self) -> str:
        return f"{self.repair_id}: {'automatic' if self.automatic else 'by hand'}"
