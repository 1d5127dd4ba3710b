"""The one-time link with which a password is set before anybody can sign in."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone


class SetupLink(models.Model):
    """A link for the first operator (``person`` empty), or for a person who lost the password.

    The row holds a nonce only; the link's secret is made from it with ``SECRET_KEY``, so whoever reads the database cannot
    use it. It works once and until ``expires_at``.
    """

    nonce = models.CharField(max_length=64, unique=True)
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"Set-up link {self.pk}"

    @property
    def is_open(self) -> bool:
        return self.used_at is None and self.expires_at > timezone.now()
