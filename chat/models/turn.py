"""One agent's answer to one message."""

from __future__ import annotations

from django.db import models

from chat.models.conversation import Conversation
from chat.models.message import Message
from ops.leases import LeasedWork


class TurnState(models.TextChoices):
    """``queued → running → done | failed | cancelled | timed_out | dead``; ``waiting_approval`` holds its place in line."""

    QUEUED = "queued", "Waiting"
    RUNNING = "running", "Answering"
    WAITING_APPROVAL = "waiting_approval", "Waiting for approval"
    DONE = "done", "Answered"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Stopped"
    TIMED_OUT = "timed_out", "Timed out"
    DEAD = "dead", "Dead letter"


OPEN_TURN_STATES = (TurnState.QUEUED, TurnState.RUNNING, TurnState.WAITING_APPROVAL)


class Turn(LeasedWork):
    """The state machine of an answer. A worker holds a lease and a fencing number; every write carries the number.

    ``lane``: turns of one lane never run at once (one for an agent whose backend keeps history, else one for a conversation).
    ``seq`` is the message's number: a turn may start when it is first in its conversation. ``partial`` is the text so far,
    ``partial_parts`` what came beside it (reasoning, tool calls, each with its ``index`` in the parts of the answer that is being made);
    ``variant`` counts answers to the same message (0: the first; more: it was asked to answer again). ``approvals`` are tool calls
    that wait for a word: ``[{"id", "name", "arguments", "approve": null|true|false, "by", "reason", "at"}]``.
    ``upstream_ref`` is the backend's run id, ``backend_ref`` its conversation in which this was said (portal conversations, whose branches
    each have their own). ``error_public`` is what the person was told, ``error_reason`` what really happened.
    """

    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="turns")
    agent = models.ForeignKey("agents.Agent", on_delete=models.CASCADE, related_name="turns")
    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="turns")
    reply = models.OneToOneField(Message, on_delete=models.SET_NULL, null=True, blank=True, related_name="answer_of")
    seq = models.PositiveIntegerField()
    variant = models.PositiveSmallIntegerField(default=0)
    approvals = models.JSONField(default=list, blank=True)
    state = models.CharField(max_length=20, choices=TurnState.choices, default=TurnState.QUEUED)
    partial = models.TextField(blank=True)
    partial_parts = models.JSONField(default=list, blank=True)
    upstream_ref = models.CharField(max_length=255, blank=True)
    backend_ref = models.CharField(max_length=255, blank=True)
    stop_requested_by = models.CharField(max_length=255, blank=True)
    finish_reason = models.CharField(max_length=50, blank=True)
    input_tokens = models.PositiveIntegerField(null=True, blank=True)
    output_tokens = models.PositiveIntegerField(null=True, blank=True)
    error_code = models.CharField(max_length=50, blank=True)
    error_public = models.CharField(max_length=500, blank=True)
    error_reason = models.TextField(blank=True)
    waits = models.PositiveIntegerField(default=0, help_text="How often it stepped back because the backend was busy.")
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    first_token_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["message", "agent", "variant"], name="one_turn_for_a_message_and_agent"),
            models.UniqueConstraint(
                fields=["lane"], condition=models.Q(state="running"), name="one_running_turn_in_a_lane"
            ),
        ]
        # Partial indexes: claiming looks only at open rows, however many finished ones there are.
        indexes = [
            models.Index(
                fields=["conversation", "seq"],
                condition=models.Q(state__in=["queued", "running", "waiting_approval"]),
                name="turn_open_in_conversation",
            ),
            models.Index(fields=["lane", "id"], condition=models.Q(state="queued"), name="turn_queued_in_lane"),
            models.Index(fields=["not_before"], condition=models.Q(state="queued"), name="turn_due"),
            models.Index(fields=["lease_until"], condition=models.Q(state="running"), name="turn_leased"),
            models.Index(fields=["finished_at"], name="turn_finished_at"),
            models.Index(
                fields=["id"], condition=models.Q(state__in=["failed", "timed_out", "dead"]), name="turn_dead"
            ),
        ]

    def __str__(self) -> str:
        return f"Turn {self.pk} ({self.get_state_display()})"
