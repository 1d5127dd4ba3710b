"""What single objects looked like before: who changed what, when."""

from __future__ import annotations

from django.db import models

from ops.secrets import EncryptedJSONField


class ObjectVersion(models.Model):
    """One object's state after one change. ``model`` and ``object_id`` name it, ``state`` is a flat JSON object without secrets,
    ``secret`` holds those (encrypted). ``deleted``: this is what it was when it went.
    """

    model = models.CharField(max_length=100)
    object_id = models.CharField(max_length=255)
    label = models.CharField(max_length=255, blank=True)
    at = models.DateTimeField(auto_now_add=True)
    actor = models.CharField(max_length=255)
    action = models.CharField(max_length=100)
    message = models.CharField(max_length=500, blank=True)
    state = models.JSONField(default=dict, blank=True)
    secret = EncryptedJSONField(default=dict, blank=True)
    deleted = models.BooleanField(default=False)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["model", "object_id", "-id"], name="version_of_object"),
            models.Index(fields=["at"], name="version_at"),
        ]

    def __str__(self) -> str:
        return f"{self.label or self.object_id} at {self.at:%Y-%m-%d %H:%M}"
