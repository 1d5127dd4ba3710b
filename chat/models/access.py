"""How people get in: attempts, signing keys, sign-ins of programs, tickets of sockets."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.conf import settings
from django.db import models
from django.utils import timezone

from ops.secrets import EncryptedTextField


class AttemptKind(models.TextChoices):
    """What was tried."""

    SIGN_IN = "sign_in", "Sign in"
    INVITE = "invite", "Invitation"
    REGISTER = "register", "Registration"
    RESET = "reset", "Password reset"
    TOKEN = "token", "Token"
    SOCKET = "socket", "Socket"


class AccessAttempt(models.Model):
    """One attempt to get in, with its true outcome; the client is told less.

    ``outcome`` is "ok" or a stable word: ``unknown``, ``wrong_password``, ``inactive``, ``limited``, ``not_found``, ``expired``, ``used_up``,
    ``revoked``, ``closed``, ``invalid``, … Pruned by retention.
    """

    kind = models.CharField(max_length=10, choices=AttemptKind.choices)
    outcome = models.CharField(max_length=30)
    name = models.CharField(max_length=255, blank=True, help_text="The name or e-mail that was given.")
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True, related_name="access_attempts"
    )
    invite = models.ForeignKey("chat.Invite", on_delete=models.SET_NULL, null=True, blank=True, related_name="attempts")
    address = models.GenericIPAddressField(null=True, blank=True)
    user_agent = models.CharField(max_length=255, blank=True)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["kind", "outcome", "at"], name="attempt_kind_outcome_at"),
            models.Index(fields=["person", "at"], name="attempt_person_at"),
            models.Index(fields=["at"], name="attempt_at"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.outcome}"


class SigningKey(models.Model):
    """A key that signs access tokens (HS256). Kept in the database, encrypted, so that restarting signs nobody out.

    The newest key that is not retired signs; every key counts for checking until ``retired_at`` (rotation: old and new side by side).
    """

    kid = models.CharField(max_length=32, unique=True)
    secret = EncryptedTextField()
    created_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.kid


class ProgramLogin(models.Model):
    """One sign-in of a program (``POST /api/auth/login``): a family of rotating refresh tokens, ended as one.

    ``digest`` is SHA-256 of the present refresh token, ``previous_digest`` of the one before: its use a second time, later than the
    grace of a lost answer, means that it was stolen, and ends the family.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="program_logins")
    digest = models.CharField(max_length=64, unique=True)
    previous_digest = models.CharField(max_length=64, blank=True, db_index=True)
    rotated_at = models.DateTimeField(null=True, blank=True)
    epoch = models.PositiveIntegerField(default=0)
    address = models.GenericIPAddressField(null=True, blank=True)
    user_agent = models.CharField(max_length=255, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_reason = models.CharField(max_length=100, blank=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.person} since {self.created_at:%Y-%m-%d}"

    def is_usable(self, now: datetime | None = None) -> bool:
        """Neither revoked nor expired, and of the person's present epoch (needs ``person``)."""
        return (
            self.revoked_at is None
            and self.expires_at > (now or timezone.now())
            and self.person.is_active
            and self.epoch == self.person.access_epoch
        )


class SocketTicket(models.Model):
    """A one-use ticket (30 s) that opens a socket. It carries whatever proved the person, so that ending that ends the socket.

    ``session_key`` of a browser, ``login`` of a program, ``token`` for a personal token; all empty only for nothing.
    """

    digest = models.CharField(max_length=64, unique=True)
    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    epoch = models.PositiveIntegerField(default=0)
    session_key = models.CharField(max_length=40, blank=True)
    login = models.ForeignKey(ProgramLogin, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    token = models.ForeignKey("ops.ApiToken", on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    expires_at = models.DateTimeField(db_index=True)
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"Ticket of {self.person}"
