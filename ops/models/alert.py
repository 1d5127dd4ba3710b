"""Who is told about issues, and what they were told."""

from __future__ import annotations

from django.db import models

from ops.choices import Lamp, LampChoices
from ops.secrets import EncryptedTextField


class AlertChannel(models.Model):
    """A way to tell operators: one Apprise address (``url`` holds credentials and is encrypted), and what goes there.

    ``quiet_from`` and ``quiet_to`` are times of day in ``timezone``; what is not critical waits until they end.
    """

    name = models.CharField(max_length=100, unique=True)
    url = EncryptedTextField()
    enabled = models.BooleanField(default=True)
    min_severity = models.CharField(max_length=8, default="warning")
    only_checks = models.JSONField(default=list, blank=True)
    tell_recovery = models.BooleanField(default=True)
    remind_every_minutes = models.PositiveIntegerField(default=240)
    quiet_from = models.TimeField(null=True, blank=True)
    quiet_to = models.TimeField(null=True, blank=True)
    timezone = models.CharField(max_length=64, default="UTC")
    last_ok_at = models.DateTimeField(null=True, blank=True)
    last_error = models.CharField(max_length=500, blank=True)
    last_error_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class AlertKind(models.TextChoices):
    """What a message says."""

    OPENED = "opened", "Opened"
    RECOVERED = "recovered", "Recovered"
    REMINDER = "reminder", "Reminder"
    DIGEST = "digest", "Digest"
    TEST = "test", "Test"


class AlertState(LampChoices):
    """Where a message stands. ``suppressed``: a maintenance window, a root cause or a storm kept it back."""

    QUEUED = "queued", Lamp.WORKING, "Waiting"
    HELD = "held", Lamp.OFF, "Held for a digest"
    SENT = "sent", Lamp.GOOD, "Sent"
    SUPPRESSED = "suppressed", Lamp.OFF, "Suppressed"
    FAILED = "failed", Lamp.TROUBLE, "Failed"


class AlertMessage(models.Model):
    """One message to one channel: the delivery log. ``key`` makes it unique: the same thing is told once."""

    channel = models.ForeignKey(AlertChannel, on_delete=models.CASCADE, related_name="messages")
    issue = models.ForeignKey("ops.Issue", null=True, blank=True, on_delete=models.SET_NULL, related_name="alerts")
    kind = models.CharField(max_length=10, choices=AlertKind.choices)
    key = models.CharField(max_length=200, unique=True)
    title = models.CharField(max_length=250)
    body = models.TextField(blank=True)
    state = models.CharField(max_length=10, choices=AlertState.choices, default=AlertState.QUEUED)
    attempts = models.PositiveIntegerField(default=0)
    error = models.CharField(max_length=500, blank=True)
    due_at = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["state", "due_at"], name="alert_state_due")]

    def __str__(self) -> str:
        return self.title

    @property
    def lamp(self) -> Lamp:
        return AlertState(self.state).lamp


class MaintenanceWindow(models.Model):
    """A time in which nobody is told about some checks (or about any, when ``checks`` is empty)."""

    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    reason = models.CharField(max_length=300)
    checks = models.JSONField(default=list, blank=True)
    created_by = models.CharField(max_length=255)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-starts_at"]

    def __str__(self) -> str:
        return self.reason
