"""An agent with its account and its room."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from agents.models.account import Account
from agents.models.agent import Agent, AgentState
from agents.models.room import Room


class Mapping(models.Model):
    """The row that operators look at, import, back up and repair.

    Account and room rows exist, with names derived from the agent's id, before anything is made on the homeserver; so a
    crash between two steps leaves a row that says how far it came. ``problem`` is the last failure's sentence, "" when well.
    """

    agent = models.OneToOneField(Agent, on_delete=models.CASCADE, related_name="mapping")
    account = models.OneToOneField(Account, on_delete=models.PROTECT, related_name="mapping")
    room = models.OneToOneField(Room, on_delete=models.PROTECT, related_name="mapping", null=True, blank=True)
    problem = models.CharField(max_length=500, blank=True)
    problem_since = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["agent__name", "id"]

    def __str__(self) -> str:
        return f"{self.agent} ↔ {self.account}"

    @property
    def status(self) -> str:
        """One word for the badge: ``archived``, ``missing``, ``paused``, ``trouble``, ``incomplete``, ``ready`` or ``connected``.

        ``ready``: it can be found and written to, and its room is made when somebody looks for it (``MATRIX_ROOMS=lazy``).
        """
        if self.agent.state == AgentState.ARCHIVED:
            return "archived"
        if self.problem:
            return "trouble"
        if self.agent.state == AgentState.MISSING:
            return "missing"
        if self.room is None or not self.account.registered_at:
            return "incomplete"
        if not self.room.room_id:
            return "ready" if settings.MATRIX_ROOMS == "lazy" else "incomplete"
        return "paused" if self.agent.paused else "connected"
