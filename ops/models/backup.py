"""Backups: where they go, who can open them, what each holds, and what the drills said."""

from __future__ import annotations

import uuid

from django.db import models

from ops.choices import Lamp, LampChoices
from ops.secrets import EncryptedJSONField


class BackupKey(models.Model):
    """Somebody who can open backups: the public half of an age key (X25519). The private half is shown once and kept nowhere here.

    ``confirmed_at``: the private half was typed back and opened a test file. Retired keys get no new backups.
    """

    label = models.CharField(max_length=100)
    recipient = models.CharField(max_length=100, unique=True, help_text="age1…")
    fingerprint = models.CharField(max_length=16, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=255)
    confirmed_at = models.DateTimeField(null=True, blank=True)
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.label


class DestinationKind(models.TextChoices):
    """Where copies can lie."""

    FOLDER = "folder", "Folder"
    S3 = "s3", "S3-compatible storage"


class BackupDestination(models.Model):
    """A place for copies, with its own retention and its own result.

    ``options``: folder ``{"path"}`` (relative: below the data directory); s3 ``{"endpoint_url", "bucket", "prefix", "region", "addressing"}``.
    ``credentials``: s3 ``{"access_key", "secret_key"}``. A copy is kept when any of the rules wants it: the newest ``keep_last``, and the
    newest of each of the last ``keep_daily`` days, ``keep_weekly`` weeks, ``keep_monthly`` months that have one. The last good one always is.
    """

    name = models.CharField(max_length=64, unique=True)
    kind = models.CharField(max_length=10, choices=DestinationKind.choices, default=DestinationKind.FOLDER)
    options = models.JSONField(default=dict, blank=True)
    credentials = EncryptedJSONField(default=dict, blank=True)
    enabled = models.BooleanField(default=True)
    keep_last = models.PositiveIntegerField(default=3)
    keep_daily = models.PositiveIntegerField(default=7)
    keep_weekly = models.PositiveIntegerField(default=4)
    keep_monthly = models.PositiveIntegerField(default=6)
    last_ok_at = models.DateTimeField(null=True, blank=True)
    last_error = models.CharField(max_length=500, blank=True)
    last_error_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.name


class BackupState(LampChoices):
    """``partial``: the file is whole, and not every destination has it."""

    RUNNING = "running", Lamp.WORKING, "Being made"
    COMPLETE = "complete", Lamp.GOOD, "Complete"
    PARTIAL = "partial", Lamp.ATTENTION, "Not everywhere"
    FAILED = "failed", Lamp.TROUBLE, "Failed"


class BackupReason(models.TextChoices):
    """Why it was made. ``found``: it lay at a destination, made by another installation or before a loss."""

    MANUAL = "manual", "By hand"
    SCHEDULE = "schedule", "By schedule"
    SAFETY = "safety", "Before a change"
    FOUND = "found", "Found at a destination"


class Backup(models.Model):
    """One backup. ``sha256`` and ``size`` are the file's; ``manifest`` is the one inside it (what ``ops.backup.manifest`` says).

    ``parts`` is ``{part: {"label", "items", "size", "sentence"}}`` for people; ``missing`` are parts that should be in it and are not, with why.
    ``verified_at``: last re-read and re-hashed well; ``good_at``: last drill that passed. ``pinned``: never pruned.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=120, unique=True)
    reason = models.CharField(max_length=10, choices=BackupReason.choices, default=BackupReason.MANUAL)
    state = models.CharField(max_length=10, choices=BackupState.choices, default=BackupState.RUNNING)
    note = models.CharField(max_length=300, blank=True)
    version = models.CharField(max_length=50, blank=True)
    installation = models.CharField(max_length=64, blank=True)
    recipients = models.JSONField(default=list, blank=True, help_text="Fingerprints of the keys that open it.")
    size = models.PositiveBigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, blank=True)
    rows = models.PositiveBigIntegerField(default=0)
    manifest = models.JSONField(default=dict, blank=True)
    parts = models.JSONField(default=dict, blank=True)
    missing = models.JSONField(default=dict, blank=True)
    error = models.CharField(max_length=1000, blank=True)
    actor = models.CharField(max_length=255)
    job = models.ForeignKey("ops.Job", null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    pinned = models.BooleanField(default=False)
    made_at = models.DateTimeField(help_text="When the cut was made: what was written later is not in it.")
    finished_at = models.DateTimeField(null=True, blank=True)
    verified_at = models.DateTimeField(null=True, blank=True)
    verify_error = models.CharField(max_length=1000, blank=True)
    good_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-made_at"]
        indexes = [models.Index(fields=["-made_at"], name="backup_made_at")]

    def __str__(self) -> str:
        return self.name

    @property
    def lamp(self) -> Lamp:
        """Lamp of the state."""
        return BackupState(self.state).lamp


class CopyState(LampChoices):
    """Where a copy stands. ``missing``: it was there and is not any more; ``pruned``: we removed it."""

    WAITING = "waiting", Lamp.WORKING, "On its way"
    STORED = "stored", Lamp.GOOD, "Stored"
    FAILED = "failed", Lamp.TROUBLE, "Failed"
    MISSING = "missing", Lamp.TROUBLE, "Gone"
    PRUNED = "pruned", Lamp.OFF, "Removed"


class BackupCopy(models.Model):
    """One backup at one destination."""

    backup = models.ForeignKey(Backup, on_delete=models.CASCADE, related_name="copies")
    destination = models.ForeignKey(BackupDestination, on_delete=models.CASCADE, related_name="copies")
    state = models.CharField(max_length=10, choices=CopyState.choices, default=CopyState.WAITING)
    attempts = models.PositiveIntegerField(default=0)
    error = models.CharField(max_length=1000, blank=True)
    size = models.PositiveBigIntegerField(default=0)
    stored_at = models.DateTimeField(null=True, blank=True)
    checked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "backup copies"
        ordering = ["backup_id", "destination_id"]
        constraints = [models.UniqueConstraint(fields=["backup", "destination"], name="one_copy_at_a_destination")]

    def __str__(self) -> str:
        return f"{self.backup} at {self.destination}"

    @property
    def lamp(self) -> Lamp:
        """Lamp of the state."""
        return CopyState(self.state).lamp


class DrillState(LampChoices):
    """What a drill said."""

    RUNNING = "running", Lamp.WORKING, "Running"
    PASSED = "passed", Lamp.GOOD, "Passed"
    FAILED = "failed", Lamp.TROUBLE, "Failed"


class BackupDrill(models.Model):
    """One restore of one backup into a scratch place, thrown away afterwards.

    ``steps`` is ``[{"step", "ok", "sentence", "seconds"}]``; ``findings`` are JSON findings.
    """

    backup = models.ForeignKey(Backup, on_delete=models.CASCADE, related_name="drills")
    destination = models.ForeignKey(
        BackupDestination, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    state = models.CharField(max_length=10, choices=DrillState.choices, default=DrillState.RUNNING)
    steps = models.JSONField(default=list, blank=True)
    findings = models.JSONField(default=list, blank=True)
    rows = models.PositiveBigIntegerField(default=0)
    seconds = models.FloatField(default=0.0)
    error = models.CharField(max_length=1000, blank=True)
    actor = models.CharField(max_length=255)
    started_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"Drill of {self.backup} ({self.get_state_display()})"

    @property
    def lamp(self) -> Lamp:
        """Lamp of the state."""
        return DrillState(self.state).lamp


class BackupPlan(models.Model):
    """When backups are made by themselves: one row. Times of day are in ``timezone``; ``jitter_minutes`` spreads installations.

    ``next_at`` is the next run with its jitter; a run that was missed is made up for at the next start. ``drill_weekday`` is 0 for Monday.
    ``contents`` are optional parts that are taken along (``letta_agents``, ``homeserver``).
    """

    enabled = models.BooleanField(default=True)
    every_hours = models.PositiveIntegerField(default=24)
    at = models.TimeField(null=True, blank=True, help_text="Time of day for plans of whole days.")
    timezone = models.CharField(max_length=64, default="UTC")
    jitter_minutes = models.PositiveIntegerField(default=30)
    contents = models.JSONField(default=list, blank=True)
    drill_every_days = models.PositiveIntegerField(default=7)
    next_at = models.DateTimeField(null=True, blank=True)
    last_attempt_at = models.DateTimeField(null=True, blank=True)
    last_complete_at = models.DateTimeField(null=True, blank=True)
    last_drill_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"every {self.every_hours} hours"
