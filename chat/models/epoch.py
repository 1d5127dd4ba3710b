"""Since when intake may have missed something."""

from __future__ import annotations

from django.db import models


class IntakeEpoch(models.Model):
    """A number that rises whenever events of a homeserver may have been missed (our start, its crash, a restore).

    A room whose ``caught_up_epoch`` is smaller is walked back to what is known before anything new of it is taken in.
    """

    homeserver = models.OneToOneField("ops.Service", on_delete=models.CASCADE, related_name="intake_epoch")
    number = models.PositiveIntegerField(default=1)
    reason = models.CharField(max_length=255, blank=True)
    at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"{self.homeserver}: {self.number} ({self.reason})"
