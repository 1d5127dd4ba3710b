"""One small type for everything that checks, plans, imports and verifications have to say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["info", "warning", "error", "critical"]

SEVERITIES: tuple[Severity, ...] = ("info", "warning", "error", "critical")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was noticed.

    ``code`` is stable and dotted (``agents.duplicate_room``), ``sentence`` is for people, ``target`` names what it is about
    (``agent:42``), ``evidence`` holds JSON values that support it and never a secret.
    """

    severity: Severity
    code: str
    sentence: str
    target: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(f"{self.severity!r} is not a severity; use one of {', '.join(SEVERITIES)}.")

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{severity, code, sentence, target, evidence}``."""
        return {
            "severity": self.severity,
            "code": self.code,
            "sentence": self.sentence,
            "target": self.target,
            "evidence": dict(self.evidence),
        }


def worst(findings: Iterable[Finding]) -> Severity | None:
    """The highest severity among ``findings``; None when there are none."""
    return max((finding.severity for finding in findings), key=SEVERITIES.index, default=None)
