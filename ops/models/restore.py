"""Restores: what a backup would change, what was chosen, and how it ended."""

from __future__ import annotations

import uuid

from django.db import models

from ops.choices import Lamp, LampChoices


class RestoreState(LampChoices):
    """``planned``: read, checked and compared; nothing is changed yet. ``reconciling``: rows are in, the outside is being looked at."""

    PLANNING = "planning", Lamp.WORKING, "Being compared"
    PLANNED = "planned", Lamp.ATTENTION, "Ready to apply"
    APPLYING = "applying", Lamp.WORKING, "Being applied"
    RECONCILING = "reconciling", Lamp.WORKING, "Being brought together with the outside"
    DONE = "done", Lamp.GOOD, "Done"
    FAILED = "failed", Lamp.TROUBLE, "Failed"
    DISCARDED = "discarded", Lamp.OFF, "Discarded"
    UNDONE = "undone", Lamp.OFF, "Undone"


# In these no row has been replaced yet.
UNCHANGED_STATES = (RestoreState.PLANNING, RestoreState.PLANNED, RestoreState.APPLYING)


class Restore(models.Model):
    """One restore of a backup into this installation.

    ``source`` names the file; ``kinds`` are the kinds of rows that were chosen (empty: all). ``plan`` is
    ``{"models": [{"model", "label", "kind", "added", "changed", "removed", "kept", "same", "examples": [{"what", "label", "before", "after"}]}]}``,
    ``parts`` and ``findings`` likewise are JSON for people. ``safety`` is the backup that was made before anything was changed;
    taking the restore back restores that. ``report`` says what reconciling found.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    backup = models.ForeignKey("ops.Backup", null=True, blank=True, on_delete=models.SET_NULL, related_name="restores")
    source = models.CharField(max_length=500)
    made_at = models.DateTimeField(null=True, blank=True, help_text="When the backup's cut was made.")
    kinds = models.JSONField(default=list, blank=True)
    state = models.CharField(max_length=12, choices=RestoreState.choices, default=RestoreState.PLANNING)
    plan = models.JSONField(default=dict, blank=True)
    parts = models.JSONField(default=dict, blank=True)
    findings = models.JSONField(default=list, blank=True)
    report = models.JSONField(default=dict, blank=True)
    safety = models.ForeignKey("ops.Backup", null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    undoes = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="undone_through")
    job = models.ForeignKey("ops.Job", null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    error = models.CharField(max_length=1000, blank=True)
    actor = models.CharField(max_length=255)
    created_at = models.DateTimeField(auto_now_add=True)
    applied_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            # One at a time: two at once would each compare with what the other is writing.
            models.UniqueConstraint(
                fields=["state"], condition=models.Q(state="applying"), name="one_restore_at_a_time"
            )
        ]

    def __str__(self) -> str:
        return f"Restore of {self.source}"

    @property
    def lamp(self) -> Lamp:
        """Lamp of the state."""
        return RestoreState(self.state).lamp


class RestoreEpoch(models.Model):
    """How often this installation's rows were put back, and when last: one row, written in the restore's own transaction.

    What was said and sent before ``at`` is history: it is neither answered nor sent again. Processes that see another ``number`` than the one
    they began with drop what they hold in memory.
    """

    number = models.PositiveIntegerField(default=0)
    at = models.DateTimeField(null=True, blank=True)
    cut_at = models.DateTimeField(null=True, blank=True, help_text="When the restored backup's cut was made.")
    restore_id = models.UUIDField(null=True, blank=True)

    def __str__(self) -> str:
        return f"Restore epoch {self.number}"
