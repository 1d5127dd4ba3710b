"""Where the homeserver differs from what a mapping says."""

from __future__ import annotations

from django.db import models


class DriftKind(models.TextChoices):
    """What differs. The first group concerns the account, the second the room, the third the space, the last our own rows."""

    ACCOUNT_GONE = "account.gone", "Account is gone"
    ACCOUNT_NAME = "account.name", "Account has another name"
    ACCOUNT_AVATAR = "account.avatar", "Account has another picture"
    ACCOUNT_OUT = "account.out", "Agent is not in its room"
    ROOM_GONE = "room.gone", "Room is gone"
    ROOM_UPGRADED = "room.upgraded", "Room was upgraded"
    ROOM_NAME = "room.name", "Room has another name or topic"
    ROOM_ALIAS = "room.alias", "Room's address leads elsewhere"
    ROOM_POWER = "room.power", "Agent may not look after its room"
    ROOM_INVITES = "room.invites", "Invitations are pending"
    ROOM_OPERATORS = "room.operators", "Operators are missing"
    SPACE_CHILD = "space.child", "Room is missing in the space"
    SPACE_GONE = "space.gone", "Space is gone"
    SPACE_DOUBLE = "space.double", "There is a second space"
    ROOM_DOUBLE = "room.double", "Agent has two rooms"
    ROOM_SHARED = "room.shared", "Room belongs to two agents"


class Drift(models.Model):
    """One difference. Open until a look finds it mended (``mended_at``). Shown on the mapping, mended by sync's plan.

    ``mapping`` is empty for what concerns the space. ``detail`` is ``{"stored": …, "found": …}`` without secrets. ``mends`` says
    whether sync mends it by itself or an operator has to decide, and ``sentence`` says what is wrong in words.
    """

    homeserver = models.ForeignKey("ops.Service", on_delete=models.CASCADE, related_name="drifts")
    mapping = models.ForeignKey(
        "agents.Mapping", on_delete=models.CASCADE, null=True, blank=True, related_name="drifts"
    )
    kind = models.CharField(max_length=20, choices=DriftKind.choices)
    key = models.CharField(max_length=255, blank=True, help_text="Tells two of a kind apart: a user id, a room id.")
    sentence = models.CharField(max_length=500)
    detail = models.JSONField(default=dict, blank=True)
    mends = models.BooleanField(default=True, help_text="Sync mends it; otherwise somebody has to decide.")
    error = models.CharField(max_length=500, blank=True, help_text="Why the last attempt to mend it failed.")
    found_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    mended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name, verbose_name_plural = "difference", "drift"
        ordering = ["-found_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["homeserver", "mapping", "kind", "key"],
                condition=models.Q(mended_at__isnull=True, mapping__isnull=False),
                name="drift_open_once",
            ),
            models.UniqueConstraint(
                fields=["homeserver", "kind", "key"],
                condition=models.Q(mended_at__isnull=True, mapping__isnull=True),
                name="drift_open_once_space",
            ),
        ]
        indexes = [models.Index(fields=["mended_at", "kind"], name="drift_open")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.mapping or self.homeserver}"
