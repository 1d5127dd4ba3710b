"""Lamps: five states that everything shown to an operator boils down to, told apart by shape as well as by colour.

A model's states carry their lamp beside their label, so that no page decides again what counts as trouble.
"""

from __future__ import annotations

from enum import Enum

from django.db import models


class Lamp(Enum):
    """One of five states. ``value`` is its stable name, ``label`` a word for people, ``shape`` a character."""

    GOOD = "good"
    WORKING = "working"
    ATTENTION = "attention"
    TROUBLE = "trouble"
    OFF = "off"

    @property
    def label(self) -> str:
        return _LABELS[self]

    @property
    def shape(self) -> str:
        return _SHAPES[self]

    def __str__(self) -> str:
        return f"{self.shape} {self.label}"


_LABELS = {
    Lamp.GOOD: "Good",
    Lamp.WORKING: "Working",
    Lamp.ATTENTION: "Needs attention",
    Lamp.TROUBLE: "Trouble",
    Lamp.OFF: "Off",
}
_SHAPES = {Lamp.GOOD: "●", Lamp.WORKING: "◐", Lamp.ATTENTION: "▲", Lamp.TROUBLE: "■", Lamp.OFF: "○"}

# States of models that carry no lamp of their own, by their stored word.
_WORDS: dict[str, Lamp] = {
    **dict.fromkeys(("good", "ok", "pass", "done", "succeeded", "active", "sent", "delivered", "ready"), Lamp.GOOD),
    **dict.fromkeys(("working", "queued", "running", "sending", "pending", "waiting", "fixing"), Lamp.WORKING),
    **dict.fromkeys(
        ("attention", "warn", "warning", "degraded", "unknown", "missing", "blocked", "retrying", "waiting_approval"),
        Lamp.ATTENTION,
    ),
    **dict.fromkeys(
        ("trouble", "fail", "failed", "down", "dead", "error", "critical", "timed_out", "broken"), Lamp.TROUBLE
    ),
    **dict.fromkeys(("off", "skip", "skipped", "cancelled", "paused", "archived", "disabled", "revoked"), Lamp.OFF),
    "info": Lamp.GOOD,
}


def lamp_for(state: Lamp | str | None) -> Lamp:
    """The lamp of a state: a ``Lamp``, a member of ``LampChoices``, or a stored word. An unknown word needs attention."""
    if isinstance(state, Lamp):
        return state
    if state is None:
        return Lamp.OFF
    own = getattr(state, "lamp", None)
    if isinstance(own, Lamp):
        return own
    return _WORDS.get(str(getattr(state, "value", state)), Lamp.ATTENTION)


class LampChoices(models.TextChoices):
    """Text choices whose members are written ``NAME = "value", Lamp.X, "Label"`` and have a ``lamp``."""

    lamp: Lamp

    def __new__(cls, value: str, lamp: Lamp = Lamp.OFF) -> LampChoices:
        member = str.__new__(cls, value)
        member._value_ = value
        member.lamp = lamp
        return member


class ServiceStatus(LampChoices):
    """What the last test of a service said. ``off``: an operator switched it off."""

    UNKNOWN = "unknown", Lamp.ATTENTION, "Not tested yet"
    OK = "ok", Lamp.GOOD, "OK"
    DEGRADED = "degraded", Lamp.ATTENTION, "Degraded"
    DOWN = "down", Lamp.TROUBLE, "Down"
    OFF = "off", Lamp.OFF, "Off"


class JobState(LampChoices):
    """Where a job stands; the last three are final."""

    QUEUED = "queued", Lamp.WORKING, "Queued"
    RUNNING = "running", Lamp.WORKING, "Running"
    SUCCEEDED = "succeeded", Lamp.GOOD, "Succeeded"
    FAILED = "failed", Lamp.TROUBLE, "Failed"
    CANCELLED = "cancelled", Lamp.OFF, "Cancelled"


OPEN_JOB_STATES = (JobState.QUEUED, JobState.RUNNING)
FINAL_JOB_STATES = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class CheckStatus(LampChoices):
    """What a check found. ``blocked``: a check that it depends on failed, so asking would say nothing new."""

    PASS = "pass", Lamp.GOOD, "Pass"
    WARN = "warn", Lamp.ATTENTION, "Warning"
    FAIL = "fail", Lamp.TROUBLE, "Fail"
    SKIP = "skip", Lamp.OFF, "Skipped"
    BLOCKED = "blocked", Lamp.ATTENTION, "Blocked"


class LogLevel(LampChoices):
    """Weight of a line in a job's log."""

    DEBUG = "debug", Lamp.OFF, "Debug"
    INFO = "info", Lamp.GOOD, "Info"
    WARNING = "warning", Lamp.ATTENTION, "Warning"
    ERROR = "error", Lamp.TROUBLE, "Error"


class IssueState(LampChoices):
    """Where an issue stands. Only its check closes it; an operator can only say that it has been seen, or may wait."""

    OPEN = "open", Lamp.TROUBLE, "Open"
    ACKNOWLEDGED = "acknowledged", Lamp.ATTENTION, "Acknowledged"
    SNOOZED = "snoozed", Lamp.OFF, "Snoozed"
    IGNORED = "ignored", Lamp.OFF, "Ignored until the next release"
    FIXING = "fixing", Lamp.WORKING, "Being repaired"
    RESOLVED = "resolved", Lamp.GOOD, "Resolved"


# States in which an issue asks for a hand: those the badge counts.
ASKING_ISSUE_STATES = (IssueState.OPEN, IssueState.ACKNOWLEDGED, IssueState.FIXING)


class RepairClass(LampChoices):
    """How far a repair may go by itself."""

    AUTOMATIC = "A", Lamp.GOOD, "Automatic"
    CONFIRM = "C", Lamp.ATTENTION, "Confirm"
    GUIDED = "G", Lamp.OFF, "Guided"
    DESTRUCTIVE = "D", Lamp.TROUBLE, "Destructive"


class RepairRunState(LampChoices):
    """Where one run of a repair stands. ``unneeded``: the plan had nothing to change. ``unproven``: done, and the check is
    still red."""

    QUEUED = "queued", Lamp.WORKING, "Waiting"
    RUNNING = "running", Lamp.WORKING, "Running"
    SUCCEEDED = "succeeded", Lamp.GOOD, "Mended"
    UNPROVEN = "unproven", Lamp.ATTENTION, "Done, but the check is still red"
    UNNEEDED = "unneeded", Lamp.GOOD, "Nothing to do"
    FAILED = "failed", Lamp.TROUBLE, "Failed"
    UNDONE = "undone", Lamp.OFF, "Undone"
