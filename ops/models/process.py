"""Processes of this installation, as they report themselves."""

from __future__ import annotations

from django.db import models


class ProcessRole(models.TextChoices):
    """What a process does."""

    UP = "up", "Everything in one process"
    WEB = "web", "Web server"
    WORKER = "worker", "Worker"
    BEAT = "beat", "Beat"


class Process(models.Model):
    """One long-running process: who it is, what it runs, what it uses. Written by a thread of its own every ten seconds.

    ``name`` is ``host:pid:start`` as in ``ops.leases.WORKER``. ``settings_seen`` maps a setting's name to a salted hash of its
    value, so that two processes can be compared without showing anything. ``samples`` are ``[seconds since epoch, rss bytes,
    cpu seconds]``, oldest first. ``reach`` says how each service is reached from where this process runs:
    ``{service: {stage, ok, sentence, milliseconds}}``.
    """

    name = models.CharField(max_length=150, primary_key=True)
    role = models.CharField(max_length=8, choices=ProcessRole.choices)
    host = models.CharField(max_length=100)
    pid = models.PositiveIntegerField()
    boot_id = models.CharField(max_length=64, blank=True)
    version = models.CharField(max_length=50, blank=True)
    python = models.CharField(max_length=50, blank=True)
    prefix = models.CharField(max_length=300, blank=True)
    packages_digest = models.CharField(max_length=64, blank=True)
    settings_seen = models.JSONField(default=dict, blank=True)
    database = models.CharField(max_length=64, blank=True)
    ports = models.JSONField(default=list, blank=True)
    rss_bytes = models.PositiveBigIntegerField(default=0)
    memory_limit_bytes = models.PositiveBigIntegerField(null=True, blank=True)
    oom_kills = models.PositiveIntegerField(default=0)
    cpu_percent = models.FloatField(default=0.0)
    open_files = models.PositiveIntegerField(default=0)
    threads = models.PositiveIntegerField(default=0)
    samples = models.JSONField(default=list, blank=True)
    reach = models.JSONField(default=dict, blank=True)
    ready_after_seconds = models.FloatField(null=True, blank=True)
    drain_requested_at = models.DateTimeField(null=True, blank=True)
    drain_requested_by = models.CharField(max_length=255, blank=True)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField(db_index=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    end_reason = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["-seen_at"]
        verbose_name_plural = "processes"
        indexes = [models.Index(fields=["role", "-started_at"], name="process_role_started")]

    def __str__(self) -> str:
        return f"{self.get_role_display()} {self.host}:{self.pid}"
