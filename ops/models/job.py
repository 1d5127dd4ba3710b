"""A long action with progress, a log, a result, and who asked for it."""

from __future__ import annotations

import uuid
from datetime import timedelta

from django.db import models
from django.utils import timezone

from ops.choices import FINAL_JOB_STATES, JobState, Lamp, LogLevel

_UNHEARD_SECONDS = 15.0


class JobTrigger(models.TextChoices):
    """What asked for the job."""

    ADMIN = "admin", "Admin"
    API = "api", "API"
    COMMAND = "command", "Command"
    BEAT = "beat", "Schedule"
    SYSTEM = "system", "Switchboard"


class Job(models.Model):
    """A long action. ``kind`` names a function registered with ``ops.services.jobs.job_kind``; ``params`` are its arguments.

    ``fence`` counts claims: every write of a worker names the number it claimed with, so that a worker that was taken for dead
    cannot write. ``worker`` and ``heartbeat_at`` say who runs it and when it last was alive.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=64)
    title = models.CharField(max_length=255)
    state = models.CharField(max_length=10, choices=JobState.choices, default=JobState.QUEUED)
    progress_done = models.PositiveIntegerField(default=0)
    progress_total = models.PositiveIntegerField(default=0)
    progress_text = models.CharField(max_length=255, blank=True)
    params = models.JSONField(default=dict, blank=True)
    result = models.JSONField(null=True, blank=True)
    error = models.TextField(blank=True)
    actor = models.CharField(max_length=255)
    trigger = models.CharField(max_length=10, choices=JobTrigger.choices, default=JobTrigger.SYSTEM)
    cancel_requested = models.BooleanField(default=False)
    attempts = models.PositiveIntegerField(default=0)
    fence = models.PositiveIntegerField(default=0)
    worker = models.CharField(max_length=100, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["state", "heartbeat_at"], name="job_state_heartbeat"),
            models.Index(fields=["kind", "-created_at"], name="job_kind_created"),
            models.Index(fields=["-created_at"], name="job_created"),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def lamp(self) -> Lamp:
        return JobState(self.state).lamp

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_JOB_STATES

    @property
    def is_unheard(self) -> bool:
        """Whether its worker, which reports every few seconds, has said nothing for so long that it may have died."""
        if self.state != JobState.RUNNING or self.heartbeat_at is None:
            return False
        return timezone.now() - self.heartbeat_at > timedelta(seconds=_UNHEARD_SECONDS)

    @property
    def percent(self) -> int | None:
        """Progress in percent; None while the total is unknown."""
        if not self.progress_total:
            return None
        return min(100, self.progress_done * 100 // self.progress_total)


class JobLine(models.Model):
    """One line of a job's log."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="lines")
    at = models.DateTimeField()
    level = models.CharField(max_length=8, choices=LogLevel.choices, default=LogLevel.INFO)
    text = models.TextField()

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.text[:80]
