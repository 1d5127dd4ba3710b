"""Signs of life of worker processes."""

from __future__ import annotations

from django.db import models


class Heartbeat(models.Model):
    """The last sign of life of one worker: it ran a task that beat had sent through the broker.

    ``name`` is ``host:pid:start``; a fresh ``seen_at`` proves beat, broker, worker and database at once.
    """

    name = models.CharField(max_length=150, primary_key=True)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ["-seen_at"]

    def __str__(self) -> str:
        return self.name
