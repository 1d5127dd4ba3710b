"""How often something was seen to go wrong with an outside server: counters that survive a restart."""

from __future__ import annotations

from django.db import models


class Sighting(models.Model):
    """What went wrong with one service, counted by the hour. Written only when something does go wrong.

    ``kind`` is what (``rate_limited``, ``no_credit``, ``unknown_message``, …), ``label`` says more (a model, a message's type),
    ``agent`` is a target (``agent:42``) or empty. ``until``: when the server says that it may be asked again. ``sample`` is
    redacted. ``settled_at``: what was done about it makes earlier ones count no longer.
    """

    service = models.CharField(max_length=64)
    kind = models.CharField(max_length=40)
    label = models.CharField(max_length=150, blank=True)
    agent = models.CharField(max_length=60, blank=True)
    hour = models.DateTimeField()
    count = models.PositiveIntegerField(default=0)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    until = models.DateTimeField(null=True, blank=True)
    sample = models.CharField(max_length=500, blank=True)
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-last_at"]
        constraints = [
            models.UniqueConstraint(fields=["service", "kind", "label", "agent", "hour"], name="sighting_once_an_hour")
        ]
        indexes = [models.Index(fields=["kind", "-last_at"], name="sighting_kind_last")]

    def __str__(self) -> str:
        return f"{self.kind} at {self.service}: {self.count}"
