"""Invitations to the portal, and who used them."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import models
from django.utils import timezone

from chat.models.person import PersonRole


class Invite(models.Model):
    """An invitation code as an object. The code (128 random bits or more) is shown once; ``digest`` (SHA-256) finds it.

    ``hint`` is its first characters, so that people can tell codes apart. ``max_uses`` empty: any number. ``all_agents`` false:
    whoever joins may talk to ``agents`` only. Revoking is reversible: ``revoked_at`` is emptied again. ``imported``: the plain code came
    from a predecessor and may be shorter.
    """

    digest = models.CharField(max_length=64, unique=True)
    hint = models.CharField(max_length=12)
    role = models.CharField(max_length=10, choices=PersonRole.choices, default=PersonRole.PERSON)
    max_uses = models.PositiveIntegerField(null=True, blank=True, default=1)
    uses = models.PositiveIntegerField(default=0)
    expires_at = models.DateTimeField(null=True, blank=True)
    all_agents = models.BooleanField(default=True)
    agents = models.ManyToManyField("agents.Agent", blank=True, related_name="+")
    note = models.CharField(max_length=255, blank=True)
    imported = models.BooleanField(default=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="invites_made"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_by = models.CharField(max_length=255, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.hint}…" + (f" ({self.note})" if self.note else "")

    def state(self, now: datetime | None = None) -> str:
        """``open``, ``revoked``, ``expired`` or ``used_up``."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= (now or timezone.now()):
            return "expired"
        if self.max_uses is not None and self.uses >= self.max_uses:
            return "used_up"
        return "open"


class InviteUse(models.Model):
    """Who joined by an invitation."""

    invite = models.ForeignKey(Invite, on_delete=models.CASCADE, related_name="used_by")
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="invites_used"
    )
    name = models.CharField(max_length=150, help_text="The user name; it outlives the person.")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.name} by {self.invite}"
