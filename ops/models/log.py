"""Recent log lines, known error texts, and captured calls to outside servers."""

from __future__ import annotations

import uuid

from django.db import models

from ops.choices import LogLevel


class LogLine(models.Model):
    """One recent line of the log, redacted before it came here. Kept for days and up to a bounded number, then pruned."""

    at = models.DateTimeField()
    level = models.CharField(max_length=8, choices=LogLevel.choices)
    role = models.CharField(max_length=8, blank=True)
    process = models.CharField(max_length=150, blank=True)
    logger = models.CharField(max_length=150, blank=True)
    event = models.CharField(max_length=300)
    service = models.CharField(max_length=64, blank=True)
    agent = models.CharField(max_length=200, blank=True)
    message_id = models.CharField(max_length=64, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    extra = models.JSONField(default=dict, blank=True)
    trace = models.TextField(blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["level", "-id"], name="log_level"),
            models.Index(fields=["message_id", "-id"], name="log_message"),
            models.Index(fields=["agent", "-id"], name="log_agent"),
            models.Index(fields=["at"], name="log_at"),
        ]

    def __str__(self) -> str:
        return self.event


class ErrorSignature(models.Model):
    """An operator's own entry in the dictionary of known error texts; the shipped ones are code (``ops.logbook``)."""

    pattern = models.CharField(max_length=300, unique=True)
    meaning = models.CharField(max_length=500)
    remedy = models.CharField(max_length=500, blank=True)
    check_id = models.CharField(max_length=100, blank=True)
    created_by = models.CharField(max_length=255)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pattern"]

    def __str__(self) -> str:
        return self.pattern


class Capture(models.Model):
    """An operator's order to write down calls to outside servers for some minutes. Ends by itself."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    service = models.CharField(max_length=64, blank=True)
    agent = models.CharField(max_length=200, blank=True)
    started_at = models.DateTimeField(auto_now_add=True)
    until = models.DateTimeField()
    started_by = models.CharField(max_length=255)

    class Meta:
        ordering = ["-started_at"]

    def __str__(self) -> str:
        return f"{self.service or 'all services'} until {self.until:%Y-%m-%d %H:%M}"


class Exchange(models.Model):
    """One captured call to an outside server: redacted, bodies cut at a bounded length."""

    capture = models.ForeignKey(Capture, on_delete=models.CASCADE, related_name="exchanges")
    at = models.DateTimeField()
    service = models.CharField(max_length=64, blank=True)
    agent = models.CharField(max_length=200, blank=True)
    method = models.CharField(max_length=8)
    url = models.CharField(max_length=1000)
    status = models.PositiveIntegerField(null=True, blank=True)
    milliseconds = models.PositiveIntegerField(default=0)
    request_headers = models.JSONField(default=dict, blank=True)
    request_body = models.TextField(blank=True)
    response_headers = models.JSONField(default=dict, blank=True)
    response_body = models.TextField(blank=True)
    error = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.method} {self.url}"
