"""Files that people send along with a message."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models

from chat.models.conversation import Conversation
from chat.models.message import Message


class Attachment(models.Model):
    """A file. Its content lies below ``DATA_DIR/attachments`` at ``path`` (made from ``sha256``), never under the web root.

    ``media_type`` was found by looking into the content, not at the name. ``message`` is empty until it is sent; what is never sent is
    pruned. ``width`` and ``height`` are set for images only.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="attachments"
    )
    conversation = models.ForeignKey(
        Conversation, on_delete=models.CASCADE, null=True, blank=True, related_name="attachments"
    )
    message = models.ForeignKey(Message, on_delete=models.CASCADE, null=True, blank=True, related_name="attachments")
    name = models.CharField(max_length=255)
    media_type = models.CharField(max_length=100)
    size = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64, db_index=True)
    path = models.CharField(max_length=255)
    width = models.PositiveIntegerField(null=True, blank=True)
    height = models.PositiveIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        ordering = ["created_at", "id"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_image(self) -> bool:
        """Whether browsers and models take it as a picture."""
        return self.media_type in {"image/png", "image/jpeg", "image/gif", "image/webp"}
