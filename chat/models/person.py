"""Somebody who uses Switchboard; an operator is a person with ``is_staff``."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils.crypto import salted_hmac


class PersonRole(models.TextChoices):
    """What an invitation makes of somebody. It is read off ``is_staff``, never stored beside it."""

    PERSON = "person", "Person"
    OPERATOR = "operator", "Operator"


class Person(AbstractUser):
    """A person. ``matrix_user_id`` is their own Matrix account, which is invited to the space and its rooms.

    ``all_agents``: may talk to every agent; otherwise only to those of their ``AgentGrant`` rows (operators: to every one).
    ``access_epoch`` rises when everything that they opened has to end at once (deactivated, signed out everywhere): sockets,
    refresh tokens and tickets of an earlier epoch are worthless. ``preferences`` holds what the portal page remembers (theme,
    shortcuts, …). ``language`` and ``time_zone`` are "" until they chose: the browser's then.
    """

    display_name = models.CharField(max_length=150, blank=True)
    matrix_user_id = models.CharField(max_length=255, blank=True, db_index=True)
    all_agents = models.BooleanField(default=True)
    access_epoch = models.PositiveIntegerField(default=0)
    language = models.CharField(max_length=10, blank=True)
    time_zone = models.CharField(max_length=64, blank=True)
    preferences = models.JSONField(default=dict, blank=True)
    deactivated_at = models.DateTimeField(null=True, blank=True)
    deactivated_by = models.CharField(max_length=255, blank=True)
    deactivated_reason = models.CharField(max_length=500, blank=True)

    class Meta:
        verbose_name = "person"
        verbose_name_plural = "people"

    def __str__(self) -> str:
        return self.display_name or self.username

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        """What Django proves a browser's session by: the password and the epoch, so that raising it ends every one of them."""
        plain: str = super()._get_session_auth_hash(secret)  # type: ignore[misc]
        if not self.access_epoch:
            return plain
        return salted_hmac(
            "chat.person.session", f"{self.access_epoch}:{plain}", secret=secret, algorithm="sha256"
        ).hexdigest()

    @property
    def role(self) -> PersonRole:
        """Operator or person."""
        return PersonRole.OPERATOR if self.is_staff else PersonRole.PERSON


class AgentGrant(models.Model):
    """An agent that a person may talk to who may not talk to all of them."""

    person = models.ForeignKey(Person, on_delete=models.CASCADE, related_name="agent_grants")
    agent = models.ForeignKey("agents.Agent", on_delete=models.CASCADE, related_name="grants")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["person", "agent"], name="agent_granted_once")]

    def __str__(self) -> str:
        return f"{self.person} → {self.agent}"
