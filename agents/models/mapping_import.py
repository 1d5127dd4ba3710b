"""Mappings that are brought in from files of another system."""

from __future__ import annotations

from django.db import models

from ops.secrets import EncryptedTextField


class ImportState(models.TextChoices):
    """``planned``: read and compared, nothing changed yet. ``done``: applied; rows that failed say so themselves."""

    PLANNED = "planned", "Ready to apply"
    APPLYING = "applying", "Being applied"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"
    DISCARDED = "discarded", "Discarded"


class ImportAction(models.TextChoices):
    """What a row of a file means for us."""

    CREATE = "create", "New here"
    UPDATE = "update", "Completes what is here"
    UNCHANGED = "unchanged", "Nothing to do"
    CONFLICT = "conflict", "Needs a decision"
    REJECT = "reject", "Cannot be taken"


class ImportChoice(models.TextChoices):
    """What an operator decided about a conflict."""

    NONE = "", "Not decided"
    STORED = "stored", "Keep what is here"
    FILE = "file", "Take the file's"
    HOMESERVER = "homeserver", "Take the homeserver's"


class MappingImport(models.Model):
    """One import: its files, the plan made of them, and what became of it.

    ``sources`` is ``[{"name", "kind", "size", "sha256", "records", "problems"}]``. ``counts`` has a number for each action;
    ``findings`` are JSON findings that belong to no row (a truncated file, with line and column). The files' texts are kept nowhere:
    each row holds its own record.
    """

    state = models.CharField(max_length=10, choices=ImportState.choices, default=ImportState.PLANNED)
    homeserver = models.ForeignKey("ops.Service", on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    actor = models.CharField(max_length=255, blank=True)
    sources = models.JSONField(default=list, blank=True)
    counts = models.JSONField(default=dict, blank=True)
    findings = models.JSONField(default=list, blank=True)
    error = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    applied_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"Import {self.pk} ({self.get_state_display()})"


class MappingImportRow(models.Model):
    """One record of a file: where it stands, what it says, and what becomes of it. Holds no password.

    ``stored``, ``file`` and ``homeserver`` are the three sides of a conflict as flat JSON objects with the same keys.
    ``record`` holds what is needed to apply it (encrypted: it may carry a password), and goes into the file of rejects.
    """

    run = models.ForeignKey(MappingImport, on_delete=models.CASCADE, related_name="rows")
    number = models.PositiveIntegerField()
    source = models.CharField(max_length=255)
    line = models.PositiveIntegerField(null=True, blank=True)
    kind = models.CharField(max_length=30, help_text="mapping, space, request, identity, direct_room, conversation, …")
    key = models.CharField(max_length=255)
    label = models.CharField(max_length=255, blank=True)
    action = models.CharField(max_length=10, choices=ImportAction.choices)
    code = models.CharField(max_length=60, blank=True)
    sentence = models.CharField(max_length=1000, blank=True)
    stored = models.JSONField(default=dict, blank=True)
    file = models.JSONField(default=dict, blank=True)
    homeserver = models.JSONField(default=dict, blank=True)
    record = EncryptedTextField(blank=True, default="", all_secret=False)
    choice = models.CharField(max_length=10, choices=ImportChoice.choices, default=ImportChoice.NONE, blank=True)
    result = models.CharField(max_length=10, blank=True, help_text="done, kept, failed; empty before it is applied.")
    result_sentence = models.CharField(max_length=1000, blank=True)
    target = models.CharField(max_length=100, blank=True, help_text="What it became, for example mapping:12.")

    class Meta:
        ordering = ["run", "number"]
        constraints = [models.UniqueConstraint(fields=["run", "number"], name="import_row_number")]
        indexes = [models.Index(fields=["run", "action"], name="import_row_action")]

    def __str__(self) -> str:
        return f"{self.source}: {self.label or self.key}"
