"""How far client mode has read the homeserver's sync."""

from __future__ import annotations

from django.db import models


class SyncCursor(models.Model):
    """The ``next_batch`` up to which an account's sync was taken in. Written with the rows that came of it, in one transaction."""

    homeserver = models.ForeignKey("ops.Service", on_delete=models.CASCADE, related_name="+")
    user_id = models.CharField(max_length=255)
    next_batch = models.TextField(blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["homeserver", "user_id"], name="sync_cursor_once")]

    def __str__(self) -> str:
        return f"{self.user_id} at {self.next_batch[:20]}"
