"""A person's own view of a conversation."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from chat.models.conversation import Conversation


class Membership(models.Model):
    """A person who may read and write a conversation in the portal, and what they made of it. Without this row it does not exist for them.

    ``last_read_seq``: messages beyond it are unread. ``removed_at``: they deleted it; it can be brought back until it is purged.
    ``draft`` is what they were about to say (``{"text": …, "attachments": […], "at": …}``).
    """

    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="memberships")
    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    pinned_at = models.DateTimeField(null=True, blank=True)
    archived_at = models.DateTimeField(null=True, blank=True)
    removed_at = models.DateTimeField(null=True, blank=True)
    last_read_seq = models.PositiveIntegerField(default=0)
    draft = models.JSONField(default=dict, blank=True)
    draft_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["conversation", "person"], name="member_once")]
        indexes = [models.Index(fields=["person", "removed_at", "archived_at"], name="membership_of_person")]

    def __str__(self) -> str:
        return f"{self.person} in {self.conversation}"
