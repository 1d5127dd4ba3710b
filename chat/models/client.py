"""Where conversations of stateless clients stand: they send the whole history each time, and are recognised by it."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class ClientPrefix(models.Model):
    """What a person has said to an agent up to a message, as one digest (SHA-256 of the chain of messages).

    A client that sends the same history again goes on behind ``message``. Several rows may have one digest: several conversations may
    begin alike.
    """

    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    agent = models.ForeignKey("agents.Agent", on_delete=models.CASCADE, related_name="+")
    digest = models.CharField(max_length=64)
    message = models.ForeignKey("chat.Message", on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "client prefixes"
        indexes = [models.Index(fields=["person", "agent", "digest"], name="client_prefix")]

    def __str__(self) -> str:
        return self.digest[:12]
