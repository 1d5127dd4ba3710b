"""An outside server that Switchboard depends on."""

from __future__ import annotations

from typing import Any

from django.core.validators import RegexValidator
from django.db import models

from ops.choices import Lamp, ServiceStatus
from ops.secrets import EncryptedJSONField

SERVICE_NAME = RegexValidator(
    r"^[a-z0-9][a-z0-9._-]*\Z",
    "A service's name is lower-case letters, digits, '.', '_' and '-', and starts with a letter or digit.",
)


class ManagedBy(models.TextChoices):
    """Who says how the service is reached. The environment's word wins at every start; an operator's stays as it is."""

    OPERATOR = "operator", "An operator"
    ENVIRONMENT = "environment", "The environment"


class Service(models.Model):
    """An outside server with its address and credentials: a homeserver, or a backend on which agents live.

    ``kind`` names a kind registered with ``ops.registry``; ``options`` are its settings that are no secret. ``status`` and its
    neighbours are what the last test said (``ops.services.services.service_test``); ``capabilities`` is what the server can do.
    """

    name = models.CharField(max_length=64, unique=True, validators=[SERVICE_NAME])
    kind = models.CharField(max_length=32)
    base_url = models.CharField(max_length=500, blank=True)
    credentials = EncryptedJSONField(default=dict, blank=True)
    options = models.JSONField(default=dict, blank=True)
    enabled = models.BooleanField(default=True)
    managed_by = models.CharField(max_length=12, choices=ManagedBy.choices, default=ManagedBy.OPERATOR)
    status = models.CharField(max_length=10, choices=ServiceStatus.choices, default=ServiceStatus.UNKNOWN)
    status_sentence = models.CharField(max_length=500, blank=True)
    status_changed_at = models.DateTimeField(null=True, blank=True)
    last_ok_at = models.DateTimeField(null=True, blank=True)
    checked_at = models.DateTimeField(null=True, blank=True)
    version = models.CharField(max_length=100, blank=True)
    capabilities = models.JSONField(default=dict, blank=True)
    latency_ms = models.PositiveIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]
        indexes = [models.Index(fields=["kind", "enabled"], name="service_kind_enabled")]

    def __str__(self) -> str:
        return self.name

    @property
    def lamp(self) -> Lamp:
        return Lamp.OFF if not self.enabled else ServiceStatus(self.status).lamp

    def spec_dict(self) -> dict[str, Any]:
        """``{name, kind, base_url, credentials, options}``: what an adapter needs to open the server. Holds the secrets.

        Raises ``ops.secrets.SecretUnreadable`` when the key that wrote the credentials is missing.
        """
        return {
            "name": self.name,
            "kind": self.kind,
            "base_url": self.base_url,
            "credentials": dict(self.credentials or {}),
            "options": dict(self.options or {}),
        }
