"""How much people use, and how much they may."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from chat.models.person import PersonRole


class UsageDay(models.Model):
    """What a person and an agent used on a day (UTC). Counted up in the transactions that store messages and answers.

    ``person`` is empty for whoever is no person here (a Matrix guest, an API caller's speaker).
    """

    day = models.DateField()
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True, related_name="usage"
    )
    agent = models.ForeignKey("agents.Agent", on_delete=models.CASCADE, related_name="usage")
    messages = models.PositiveBigIntegerField(default=0)
    answers = models.PositiveBigIntegerField(default=0)
    input_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering = ["-day"]
        constraints = [
            models.UniqueConstraint(
                fields=["day", "person", "agent"], condition=models.Q(person__isnull=False), name="usage_of_person_once"
            ),
            models.UniqueConstraint(
                fields=["day", "agent"], condition=models.Q(person__isnull=True), name="usage_of_others_once"
            ),
        ]
        indexes = [models.Index(fields=["person", "day"], name="usage_person_day")]

    def __str__(self) -> str:
        return f"{self.day}: {self.person or 'others'} with {self.agent}"


class Quota(models.Model):
    """A limit for a day (UTC). Names exactly one of person, agent and role; the tightest of all that fit counts.

    ``person`` and ``role`` limit what one person may use in all; ``agent`` what all people together may use of an agent.
    """

    person = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True, related_name="quota"
    )
    agent = models.OneToOneField("agents.Agent", on_delete=models.CASCADE, null=True, blank=True, related_name="quota")
    role = models.CharField(max_length=10, choices=PersonRole.choices, blank=True)
    messages_per_day = models.PositiveIntegerField(null=True, blank=True)
    tokens_per_day = models.PositiveBigIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                name="quota_of_one_thing",
                condition=(
                    models.Q(person__isnull=False, agent__isnull=True, role="")
                    | models.Q(person__isnull=True, agent__isnull=False, role="")
                    | (models.Q(person__isnull=True, agent__isnull=True) & ~models.Q(role=""))
                ),
            ),
            models.UniqueConstraint(fields=["role"], condition=~models.Q(role=""), name="quota_once_a_role"),
        ]

    def __str__(self) -> str:
        return f"Quota of {self.person or self.agent or self.get_role_display()}"
