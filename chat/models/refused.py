"""What intake did not take, and why: the answer to "did it ever arrive?"."""

from __future__ import annotations

from django.db import models


class RefusedEvent(models.Model):
    """An event that became no message. Kept for a while, so that silence can be explained."""

    transport = models.CharField(max_length=20)
    external_id = models.CharField(max_length=255, blank=True)
    place = models.CharField(max_length=255, blank=True)
    sender = models.CharField(max_length=255, blank=True)
    reason = models.CharField(max_length=50)
    sentence = models.CharField(max_length=500, blank=True)
    at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["transport", "external_id"],
                condition=~models.Q(external_id=""),
                name="refused_once_per_transport",
            )
        ]

    def __str__(self) -> str:
        return f"{self.reason}: {self.external_id}"
