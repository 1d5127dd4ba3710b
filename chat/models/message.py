"""One thing that was said."""

from __future__ import annotations

from django.db import models

from chat.models.conversation import Conversation, Participant


class Role(models.TextChoices):
    """Who a message is from, in the words of model providers."""

    USER = "user", "Person"
    ASSISTANT = "assistant", "Agent"
    NOTICE = "notice", "Notice"


class MessageState(models.TextChoices):
    """``held``: a guard stopped it from being answered; ``redacted``: taken back by its sender."""

    STORED = "stored", "Stored"
    HELD = "held", "Not answered"
    REDACTED = "redacted", "Taken back"


class Message(models.Model):
    """A message, numbered in its conversation.

    The later hops (started, first token, finished, delivered) are stamped on its turn and deliveries; ``chat.queries.trace`` puts
    them in one line.

    (``transport``, ``external_id``) is unique: the same event twice is one message. ``parts`` is a list of JSON objects in the
    order in which they happened: ``{"type": "reasoning"|"tool_call"|"tool_result", ...}``. ``hop`` counts how many
    agents answered each other since a person last spoke.

    In a conversation of the portal ``parent`` is the message before it in its branch (None: it begins the conversation); messages with the
    same parent are siblings: an edited question, an answer given again. ``revision`` is the conversation's when it was last changed.
    """

    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="messages")
    seq = models.PositiveIntegerField()
    sender = models.ForeignKey(Participant, on_delete=models.RESTRICT, related_name="messages")
    role = models.CharField(max_length=10, choices=Role.choices)
    state = models.CharField(max_length=10, choices=MessageState.choices, default=MessageState.STORED)
    text = models.TextField()
    parts = models.JSONField(default=list, blank=True)
    transport = models.CharField(max_length=20)
    external_id = models.CharField(max_length=255, blank=True)
    in_reply_to = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="replies")
    parent = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="children")
    revision = models.PositiveIntegerField(default=0)
    hop = models.PositiveSmallIntegerField(default=0)
    guard = models.CharField(max_length=50, blank=True, help_text="The guard that held it back.")

    said_at = models.DateTimeField(null=True, blank=True, help_text="The sender's own clock.")
    received_at = models.DateTimeField()
    stored_at = models.DateTimeField()

    class Meta:
        ordering = ["conversation_id", "seq"]
        constraints = [
            models.UniqueConstraint(fields=["conversation", "seq"], name="message_seq_once"),
            models.UniqueConstraint(
                fields=["transport", "external_id"],
                condition=~models.Q(external_id=""),
                name="message_once_per_transport",
            ),
        ]
        indexes = [models.Index(fields=["stored_at"], name="message_stored_at")]

    def __str__(self) -> str:
        return f"#{self.seq} {self.text[:60]}"
