"""An operator who looks at the portal through a person's eyes."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import models
from django.utils import timezone


class Impersonation(models.Model):
    """One look at the portal as somebody else: who, as whom, why, until when. It belongs to one browser session of the operator.

    Over when ``ended_at`` is set, when ``expires_at`` has passed, or when the operator's session or rights are gone.
    """

    operator = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="impersonations")
    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="impersonated")
    session_key = models.CharField(max_length=40)
    reason = models.CharField(max_length=500)
    started_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    ended_because = models.CharField(max_length=100, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["session_key"], condition=models.Q(ended_at__isnull=True), name="one_impersonation_a_session"
            )
        ]

    def __str__(self) -> str:
        return f"{self.operator} as {self.person}"

    def is_on(self, now: datetime | None = None) -> bool:
        """Neither ended nor expired."""
        return self.ended_at is None and self.expires_at > (now or timezone.now())
