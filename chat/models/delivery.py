"""One message to be shown in one place: the outbox."""

from __future__ import annotations

from django.db import models

from chat.models.message import Message
from chat.models.turn import Turn
from ops.leases import LeasedWork


class DeliveryState(models.TextChoices):
    """``streaming``: parts of an unfinished answer are already shown; ``dead``: given up, an operator decides."""

    STREAMING = "streaming", "Streaming"
    QUEUED = "queued", "Waiting"
    RUNNING = "running", "Sending"
    SENT = "sent", "Delivered"
    DEAD = "dead", "Dead letter"
    DISCARDED = "discarded", "Discarded"


class Delivery(LeasedWork):
    """A message for one target. Sent in the order of ids within a lane (a room), with deterministic transaction ids.

    ``target`` names the transport's handler (``matrix``). ``speak_as`` is ``agent`` (the agent's own account) or
    ``switchboard`` (people's words from elsewhere, and notices). ``shown`` holds what the place already shows: a list of
    ``{"txn": …, "event_id": …}``, one for each event, in order; ``edits`` counts edits made.
    """

    message = models.ForeignKey(Message, on_delete=models.CASCADE, null=True, blank=True, related_name="deliveries")
    turn = models.ForeignKey(Turn, on_delete=models.CASCADE, null=True, blank=True, related_name="deliveries")
    target = models.CharField(max_length=20)
    room = models.ForeignKey("agents.Room", on_delete=models.CASCADE, null=True, blank=True, related_name="deliveries")
    account = models.ForeignKey("agents.Account", on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    speak_as = models.CharField(max_length=15, default="agent")
    notice = models.BooleanField(default=False)
    state = models.CharField(max_length=10, choices=DeliveryState.choices, default=DeliveryState.QUEUED)
    shown = models.JSONField(default=list, blank=True)
    edits = models.PositiveSmallIntegerField(default=0)
    error_code = models.CharField(max_length=50, blank=True)
    error_reason = models.TextField(blank=True)
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "deliveries"
        constraints = [
            models.UniqueConstraint(
                fields=["lane"], condition=models.Q(state="running"), name="one_running_delivery_in_a_lane"
            ),
            models.UniqueConstraint(
                fields=["turn", "lane"],
                condition=models.Q(speak_as="agent", notice=False) & models.Q(turn__isnull=False),
                name="one_reply_delivery_for_a_turn_and_place",
            ),
        ]
        indexes = [
            models.Index(
                fields=["lane", "id"], condition=models.Q(state__in=["queued", "running"]), name="delivery_open_in_lane"
            ),
            models.Index(fields=["not_before"], condition=models.Q(state="queued"), name="delivery_due"),
            models.Index(fields=["lease_until"], condition=models.Q(state="running"), name="delivery_leased"),
            models.Index(fields=["id"], condition=models.Q(state="dead"), name="delivery_dead"),
        ]

    def __str__(self) -> str:
        return f"Delivery {self.pk} ({self.get_state_display()})"
