"""What checks found: the present state, and its history."""

from __future__ import annotations

from django.db import models

from ops.choices import CheckStatus, Lamp


class CheckState(models.Model):
    """The last outcome of one check on one target ("" for the whole installation). ``since``: when this status began.

    ``bad_in_a_row`` counts failures and warnings, ``good_in_a_row`` passes: an issue opens and closes by them.
    """

    check_id = models.CharField(max_length=100)
    target = models.CharField(max_length=200, blank=True)
    status = models.CharField(max_length=8, choices=CheckStatus.choices)
    sentence = models.CharField(max_length=1000, blank=True)
    evidence = models.JSONField(default=dict, blank=True)
    since = models.DateTimeField()
    failures_in_a_row = models.PositiveIntegerField(default=0)
    bad_in_a_row = models.PositiveIntegerField(default=0)
    good_in_a_row = models.PositiveIntegerField(default=0)
    duration_ms = models.PositiveIntegerField(default=0)
    checked_at = models.DateTimeField()

    class Meta:
        ordering = ["check_id", "target"]
        constraints = [models.UniqueConstraint(fields=["check_id", "target"], name="check_once_per_target")]
        indexes = [models.Index(fields=["status"], name="check_status")]

    def __str__(self) -> str:
        return f"{self.name}: {self.status}"

    @property
    def name(self) -> str:
        return f"{self.check_id} ({self.target})" if self.target else self.check_id

    @property
    def lamp(self) -> Lamp:
        return CheckStatus(self.status).lamp


class CheckResult(models.Model):
    """One outcome in the history: every change, and a sample now and then in between."""

    check_id = models.CharField(max_length=100)
    target = models.CharField(max_length=200, blank=True)
    status = models.CharField(max_length=8, choices=CheckStatus.choices)
    sentence = models.CharField(max_length=1000, blank=True)
    duration_ms = models.PositiveIntegerField(default=0)
    changed = models.BooleanField(default=False)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-at"]
        indexes = [
            models.Index(fields=["check_id", "target", "-at"], name="check_result_of"),
            models.Index(fields=["at"], name="check_result_at"),
        ]

    def __str__(self) -> str:
        return f"{self.check_id} {self.target} {self.status}"
