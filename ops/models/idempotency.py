"""Answers to requests that may be sent twice."""

from __future__ import annotations

from django.db import models

from ops.secrets import EncryptedJSONField


class IdempotencyRecord(models.Model):
    """One request with an ``Idempotency-Key``: while ``status`` is empty it is being answered, then the answer is kept.

    In ``response``, or in ``sealed`` when it holds a secret that is shown once (a token, a code, a link).
    """

    key = models.CharField(max_length=200)
    principal = models.CharField(max_length=255)
    method = models.CharField(max_length=10)
    path = models.CharField(max_length=500)
    body_hash = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(null=True, blank=True)
    response = models.JSONField(null=True, blank=True)
    sealed = EncryptedJSONField(default=dict, blank=True, all_secret=False)
    created_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["key", "principal", "method", "path"], name="idempotency_once"),
        ]

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.key}"
