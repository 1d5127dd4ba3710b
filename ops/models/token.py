"""Bearer tokens of operators and of automation."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import models
from django.utils import timezone


class TokenScope(models.TextChoices):
    """What a token may do. ``chat``: a person's own token, which talks to agents as that person and does nothing else."""

    READ = "read", "Read"
    WRITE = "write", "Read and write"
    CHAT = "chat", "Talk to agents"


class ApiToken(models.Model):
    """A bearer token ``swb_<prefix>.<secret>``: found by ``prefix``, proven by ``digest`` (HMAC-SHA256 of the whole token).

    The token itself is shown once, when it is made, and stored nowhere.
    """

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=16, unique=True)
    digest = models.CharField(max_length=64)
    scope = models.CharField(max_length=5, choices=TokenScope.choices, default=TokenScope.READ)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        verbose_name = "API token"

    def __str__(self) -> str:
        return f"{self.name} (swb_{self.prefix}…)"

    def __repr__(self) -> str:
        return f"<ApiToken {self.name!r} swb_{self.prefix}…>"

    def is_usable(self, now: datetime | None = None) -> bool:
        """Neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > (now or timezone.now()))
