"""Locks by name, for work of which there must be one at a time in the whole installation."""

from __future__ import annotations

from django.db import models


class NamedLock(models.Model):
    """A lock: free when ``expires_at`` has passed. ``fence`` grows with every taking. See ``ops.locks``."""

    name = models.CharField(max_length=100, primary_key=True)
    holder = models.CharField(max_length=150)
    fence = models.PositiveBigIntegerField(default=0)
    expires_at = models.DateTimeField()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
