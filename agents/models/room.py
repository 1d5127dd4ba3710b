"""Matrix rooms and who was invited to them."""

from __future__ import annotations

from django.db import models


class RoomKind(models.TextChoices):
    """``agent``: the room an agent was given; ``direct``: one a person invited it to; ``space``: the list of rooms."""

    AGENT = "agent", "Agent's room"
    DIRECT = "direct", "Direct chat"
    SPACE = "space", "Space"


class Room(models.Model):
    """A Matrix room. ``room_id`` is opaque (room version 12 has no server part) and empty until the room exists.

    ``name`` and ``topic`` are what was last written to the homeserver. ``child_order`` is the ``order`` under which the
    room stands in the space ("" = not in it). ``caught_up_epoch`` and ``last_event_at`` say up to where intake has
    certainly seen the room (see ``chat.gaps``).

    ``look_wanted_at`` is when an event said that something about the room changed (empty: nothing since the last look), ``looked_at``
    when the homeserver's state of the room was last compared with what is wanted. ``predecessors`` are the ids of the rooms that
    this one replaced (upgrades, moves), the newest first: what was said there stays readable.

    ``taken_over_at`` is, on the homeserver's clock, the time of the newest event of a room that was there before our row was
    (empty: we made it). Whatever is not newer than that was said to somebody else, and is never answered.

    ``history_until`` is, on our clock, when rows were last put back from a backup (empty: never). Whatever was said before that was
    answered then, or never will be: it is taken in as history.
    """

    homeserver = models.ForeignKey("ops.Service", on_delete=models.PROTECT, related_name="rooms")
    kind = models.CharField(max_length=10, choices=RoomKind.choices, default=RoomKind.AGENT)
    room_id = models.CharField(max_length=255, unique=True, null=True, blank=True)
    alias = models.CharField(max_length=255, blank=True, db_index=True)
    name = models.CharField(max_length=255, blank=True)
    topic = models.CharField(max_length=1000, blank=True)
    in_space = models.BooleanField(default=False)
    child_order = models.CharField(max_length=50, blank=True)
    quiet = models.BooleanField(
        default=False, help_text="Messages are kept but answered only when the agent is mentioned."
    )
    encrypted = models.BooleanField(default=False)
    switchboard_joined = models.BooleanField(default=False)
    caught_up_epoch = models.PositiveIntegerField(default=0)
    last_event_id = models.CharField(max_length=255, blank=True)
    last_event_at = models.DateTimeField(null=True, blank=True)
    look_wanted_at = models.DateTimeField(null=True, blank=True)
    looked_at = models.DateTimeField(null=True, blank=True)
    predecessors = models.JSONField(default=list, blank=True)
    taken_over_at = models.DateTimeField(null=True, blank=True)
    history_until = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["homeserver"], condition=models.Q(kind="space"), name="one_space_per_homeserver"
            )
        ]
        indexes = [
            models.Index(fields=["caught_up_epoch", "last_event_at"], name="room_caught_up"),
            models.Index(fields=["look_wanted_at"], name="room_look_wanted"),
            models.Index(fields=["looked_at"], name="room_looked_at"),
        ]

    def __str__(self) -> str:
        return self.name or self.alias or self.room_id or f"Room {self.pk}"


class InvitationState(models.TextChoices):
    """What became of an invitation."""

    PENDING = "pending", "Pending"
    INVITED = "invited", "Invited"
    JOINED = "joined", "Joined"
    LEFT = "left", "Left"
    FAILED = "failed", "Failed"


class Invitation(models.Model):
    """One person invited to one room. A refused invitation is retried with a growing delay, never in a loop."""

    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="invitations")
    user_id = models.CharField(max_length=255)
    state = models.CharField(max_length=10, choices=InvitationState.choices, default=InvitationState.PENDING)
    attempts = models.PositiveIntegerField(default=0)
    not_before = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=500, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["room", "user_id"], name="invited_once")]

    def __str__(self) -> str:
        return f"{self.user_id} → {self.room}"
