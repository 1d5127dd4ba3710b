"""One pass of sync; also the lock that keeps a second one waiting."""

from __future__ import annotations

from django.db import models


class SyncState(models.TextChoices):
    """``stopped``: the plan was suspicious and waits for an operator."""

    RUNNING = "running", "Running"
    DONE = "done", "Done"
    STOPPED = "stopped", "Needs a decision"
    FAILED = "failed", "Failed"


class SyncRun(models.Model):
    """One pass: what was planned, applied and found. At most one is ``running`` (a constraint of the database).

    ``counts`` has a number for each kind of step; ``plan`` and ``findings`` are lists of JSON objects (empty when nothing was
    to do). ``lease_until`` lets another process take over when this one was killed.

    ``looked`` says what of the homeserver was compared with our rows: ``{"mappings", "found", "mended", "open", "cursor"}``
    (numbers; ``cursor`` is the mapping after which the next pass goes on). Empty when nothing was looked at.
    """

    state = models.CharField(max_length=10, choices=SyncState.choices, default=SyncState.RUNNING)
    trigger = models.CharField(max_length=20, default="beat")
    actor = models.CharField(max_length=255, blank=True)
    service_name = models.CharField(max_length=100, blank=True)
    counts = models.JSONField(default=dict, blank=True)
    plan = models.JSONField(default=list, blank=True)
    findings = models.JSONField(default=list, blank=True)
    looked = models.JSONField(default=dict, blank=True)
    error = models.TextField(blank=True)
    started_at = models.DateTimeField(auto_now_add=True, db_index=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["state"], condition=models.Q(state="running"), name="one_sync_at_a_time")
        ]

    def __str__(self) -> str:
        return f"Sync {self.pk} ({self.get_state_display()})"
