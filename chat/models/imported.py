"""What was brought in from another system, so that bringing it in again changes nothing."""

from __future__ import annotations

from django.db import models


class ImportedRow(models.Model):
    """One row of another system and what it became here. ``digest`` of its content tells an unchanged row from a changed one."""

    system = models.CharField(max_length=30)
    source = models.CharField(max_length=64, help_text="Which installation: a fingerprint of the imported database.")
    kind = models.CharField(max_length=30)
    key = models.CharField(max_length=255)
    target = models.CharField(max_length=50, help_text="Label of the model, for example chat.Message.")
    target_id = models.CharField(max_length=64)
    digest = models.CharField(max_length=64, blank=True)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["system", "source", "kind", "key"], name="imported_once")]
        indexes = [models.Index(fields=["target", "target_id"], name="imported_target")]

    def __str__(self) -> str:
        return f"{self.system} {self.kind} {self.key}"
