"""Which versions ran here."""

from __future__ import annotations

from django.db import models


class Release(models.Model):
    """A version of the program with the schema and configuration it ran with. A start that differs in any of these writes a new row.

    ``migrations`` is ``{app: newest migration}``; ``backup`` is the one made before this release first touched the database.
    """

    version = models.CharField(max_length=50)
    git_sha = models.CharField(max_length=40, blank=True)
    migrations = models.JSONField(default=dict, blank=True)
    config_hash = models.CharField(max_length=64, blank=True)
    config = models.JSONField(default=dict, blank=True, help_text="Names of settings with a digest of each value.")
    python = models.CharField(max_length=50, blank=True)
    packages_digest = models.CharField(max_length=64, blank=True)
    first_seen_at = models.DateTimeField(auto_now_add=True)
    last_seen_at = models.DateTimeField()
    backup = models.ForeignKey("ops.Backup", null=True, blank=True, on_delete=models.SET_NULL, related_name="+")

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.version} {self.git_sha[:8]}".strip()
