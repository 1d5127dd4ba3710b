"""The Matrix user that an agent speaks as."""

from __future__ import annotations

from django.db import models


class Account(models.Model):
    """A Matrix account in the appservice's namespace: no password, no login.

    ``display_name`` and ``avatar_source`` are what was last written to the homeserver, so that an unchanged pass asks
    nothing. ``registered_at`` is empty until the homeserver has confirmed the account.
    """

    homeserver = models.ForeignKey("ops.Service", on_delete=models.PROTECT, related_name="accounts")
    user_id = models.CharField(max_length=255, unique=True)
    localpart = models.CharField(max_length=255)
    display_name = models.CharField(max_length=255, blank=True)
    avatar_source = models.CharField(max_length=1000, blank=True)
    avatar_mxc = models.CharField(max_length=255, blank=True)
    registered_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["user_id"]

    def __str__(self) -> str:
        return self.user_id
