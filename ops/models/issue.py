"""What is wrong, since when, and with which objects."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from ops.choices import CheckStatus, IssueState, Lamp


class Issue(models.Model):
    """The open failure of a check on a target. Closes by itself when the check passes; at most one is open for a place.

    ``root`` is the issue that this one follows from: while that one is open, nobody is told about this one. ``passing_since`` is
    set while the check passes and the issue waits to be sure (``flaps`` counts how often it came back within the hour).
    """

    check_id = models.CharField(max_length=100)
    target = models.CharField(max_length=200, blank=True)
    state = models.CharField(max_length=12, choices=IssueState.choices, default=IssueState.OPEN)
    status = models.CharField(max_length=8, choices=CheckStatus.choices, default=CheckStatus.FAIL)
    severity = models.CharField(max_length=8, default="error")
    sentence = models.CharField(max_length=1000, blank=True)
    evidence = models.JSONField(default=dict, blank=True)
    fix = models.JSONField(default=dict, blank=True)
    affected_count = models.PositiveIntegerField(default=0)
    root = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="dependants")
    failures = models.PositiveIntegerField(default=0)
    flaps = models.PositiveIntegerField(default=0)
    opened_at = models.DateTimeField()
    last_failed_at = models.DateTimeField()
    passing_since = models.DateTimeField(null=True, blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    handled_by = models.CharField(max_length=255, blank=True)
    handled_at = models.DateTimeField(null=True, blank=True)
    note = models.CharField(max_length=500, blank=True)
    snoozed_until = models.DateTimeField(null=True, blank=True)
    ignored_in = models.CharField(max_length=50, blank=True)

    class Meta:
        ordering = ["-opened_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["check_id", "target"], condition=~Q(state="resolved"), name="issue_open_once_per_place"
            )
        ]
        indexes = [
            models.Index(fields=["state", "-opened_at"], name="issue_state_opened"),
            models.Index(fields=["check_id", "target", "-opened_at"], name="issue_of"),
        ]

    def __str__(self) -> str:
        return f"{self.check_id} ({self.target})" if self.target else self.check_id

    @property
    def lamp(self) -> Lamp:
        if self.state == IssueState.OPEN and self.severity in ("info", "warning"):
            return Lamp.ATTENTION
        return IssueState(self.state).lamp

    @property
    def is_open(self) -> bool:
        return self.state != IssueState.RESOLVED


class IssueTarget(models.Model):
    """One object that an issue is about: ``target`` is ``kind:id`` (``agent:42``); see ``ops.doctor.targets``."""

    issue = models.ForeignKey(Issue, on_delete=models.CASCADE, related_name="affected")
    target = models.CharField(max_length=200)
    sentence = models.CharField(max_length=500, blank=True)
    evidence = models.JSONField(default=dict, blank=True)
    since = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["issue", "target"], name="issue_target_once")]
        indexes = [models.Index(fields=["target"], name="issue_target_of")]

    def __str__(self) -> str:
        return self.target
