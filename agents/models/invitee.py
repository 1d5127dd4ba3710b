"""People whom the homeserver refuses everywhere: asked less and less, in all rooms together."""

from __future__ import annotations

from django.db import models


class InviteePause(models.Model):
    """A breaker for one person: after ``failures`` refusals in a row nobody invites them anywhere until ``until``."""

    homeserver = models.ForeignKey("ops.Service", on_delete=models.CASCADE, related_name="+")
    user_id = models.CharField(max_length=255)
    failures = models.PositiveIntegerField(default=0)
    until = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=500, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["homeserver", "user_id"], name="invitee_pause_once")]

    def __str__(self) -> str:
        return self.user_id
