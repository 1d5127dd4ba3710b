"""One agent of one backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models

if TYPE_CHECKING:
    from agents.models.account import Account


class AgentState(models.TextChoices):
    """Where an agent stands. ``missing``: not in the last complete list; archived only when it stays away."""

    ACTIVE = "active", "Active"
    MISSING = "missing", "Missing"
    ARCHIVED = "archived", "Archived"


class MemoryPolicy(models.TextChoices):
    """Whose words end up in whose memory: each conversation apart, or one memory for all."""

    ISOLATED = "isolated", "Isolated: each conversation has its own history"
    SHARED = "shared", "Shared: all conversations share one history"


class Agent(models.Model):
    """One agent of one service. ``external_id`` is the server's own id; it never changes, the name may.

    ``definition`` holds what agents that are defined here consist of (``system_prompt``, ``model``, ``max_tokens``).
    ``paused`` is an operator's wish: messages are stored and wait.
    """

    service = models.ForeignKey("ops.Service", on_delete=models.PROTECT, related_name="agents")
    external_id = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    description = models.TextField(blank=True)
    avatar_url = models.CharField(max_length=1000, blank=True)
    model = models.CharField(max_length=255, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    fingerprint = models.CharField(max_length=64, blank=True, editable=False, help_text="Of what the server last said.")
    definition = models.JSONField(default=dict, blank=True)
    state = models.CharField(max_length=10, choices=AgentState.choices, default=AgentState.ACTIVE)
    paused = models.BooleanField(default=False)
    memory_policy = models.CharField(max_length=10, choices=MemoryPolicy.choices, default=MemoryPolicy.ISOLATED)
    missing_since = models.DateTimeField(null=True, blank=True)
    missed_passes = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name", "id"]
        constraints = [models.UniqueConstraint(fields=["service", "external_id"], name="agent_once_per_service")]
        indexes = [models.Index(fields=["state", "name"], name="agent_state_name")]

    def __str__(self) -> str:
        return self.name

    @property
    def account(self) -> Account | None:
        """The account it speaks as; ``None`` until one is reserved for it."""
        mapping = getattr(self, "mapping", None)
        return mapping.account if mapping is not None else None
