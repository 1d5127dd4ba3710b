"""Who changed what in an agent's memory."""

from __future__ import annotations

from django.db import models

from agents.models.agent import Agent


class MemoryEdit(models.Model):
    """One change of one memory block that was made through Switchboard, with the text before and after."""

    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="memory_edits")
    label = models.CharField(max_length=255)
    before = models.TextField(blank=True)
    after = models.TextField(blank=True)
    actor = models.CharField(max_length=255)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.agent}: {self.label}"
