"""Settings that an operator changes while everything runs."""

from __future__ import annotations

from django.db import models


class LiveSetting(models.Model):
    """The operator's value for a setting that may change without a restart; it wins over the environment.

    ``expires_at``: then the row counts no longer, and the environment's value is back.
    """

    key = models.CharField(max_length=64, primary_key=True)
    value = models.JSONField()
    expires_at = models.DateTimeField(null=True, blank=True)
    changed_by = models.CharField(max_length=255)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["key"]

    def __str__(self) -> str:
        return self.key
