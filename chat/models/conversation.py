"""A conversation, who takes part in it, and where it can be reached."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Conversation(models.Model):
    """What is said, in order. ``next_seq`` is the number that the next message gets.

    ``portal``: people have it in the portal (``Membership`` rows); its messages then form a tree (``Message.parent``), and ``head``
    is the last message of the branch that is shown. ``agent`` is who answers in it where no room decides that. ``titled``: somebody gave
    it its name; otherwise it was made from the first message. ``revision`` rises with every change of what was said before (an edit, a
    message taken back, a new title, another head), so that whoever was away can be told. ``hold`` is why nothing of it may be removed
    (a legal hold); empty: nothing holds it.
    """

    title = models.CharField(max_length=255, blank=True)
    titled = models.BooleanField(default=False)
    agent = models.ForeignKey(
        "agents.Agent", on_delete=models.SET_NULL, null=True, blank=True, related_name="conversations"
    )
    portal = models.BooleanField(default=False)
    head = models.ForeignKey("chat.Message", on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    revision = models.PositiveIntegerField(default=0)
    hold = models.CharField(max_length=500, blank=True)
    next_seq = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField(auto_now_add=True)
    last_message_at = models.DateTimeField(null=True, blank=True, db_index=True)

    class Meta:
        ordering = ["-last_message_at", "-id"]

    def __str__(self) -> str:
        return self.title or f"Conversation {self.pk}"


class ParticipantKind(models.TextChoices):
    """``guest``: somebody known only by the id that their transport gave them (a Matrix user)."""

    PERSON = "person", "Person"
    AGENT = "agent", "Agent"
    GUEST = "guest", "Guest"


class Participant(models.Model):
    """Somebody in a conversation. ``backend_ref`` is the server's own conversation id for an agent that keeps history."""

    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="participants")
    kind = models.CharField(max_length=10, choices=ParticipantKind.choices)
    agent = models.ForeignKey(
        "agents.Agent", on_delete=models.CASCADE, null=True, blank=True, related_name="participations"
    )
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="participations"
    )
    external_id = models.CharField(max_length=255, help_text="A Matrix id, a user name, or the agent's id.")
    name = models.CharField(max_length=255, blank=True)
    backend_ref = models.CharField(max_length=255, blank=True)
    joined_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["conversation", "kind", "external_id"], name="participant_once")]

    def __str__(self) -> str:
        return self.name or self.external_id


class LinkKind(models.TextChoices):
    """Kinds of places in which a conversation can be reached."""

    ROOM = "room", "Matrix room"
    PORTAL = "portal", "Portal"
    API = "api", "API caller"


class Link(models.Model):
    """Where a conversation is reachable. A Matrix room belongs to one conversation."""

    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="links")
    kind = models.CharField(max_length=10, choices=LinkKind.choices)
    room = models.OneToOneField("agents.Room", on_delete=models.CASCADE, null=True, blank=True, related_name="link")
    address = models.CharField(max_length=255, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.room or self.address}"
