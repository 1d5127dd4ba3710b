"""Guides: the exact remedy for what lies outside our reach (compose file, proxy, firewall), rendered for this installation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar


@dataclass(frozen=True, slots=True)
class GuideStep:
    """One thing to do: a sentence, and what to paste where. ``language`` is for highlighting (sh, yaml, nginx, ini)."""

    sentence: str
    snippet: str = ""
    language: str = "sh"
    place: str = ""

    def to_dict(self) -> dict[str, str]:
        """JSON shape: ``{sentence, snippet, language, place}``."""
        return {
            "sentence": self.sentence,
            "snippet": self.snippet,
            "language": self.language,
            "place": self.place,
        }


@dataclass(frozen=True, slots=True)
class Guide:
    """A remedy in steps. ``why`` says what is wrong in words; nothing in it is a secret."""

    title: str
    why: str
    steps: tuple[GuideStep, ...] = field(default_factory=tuple)

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{title, why, steps: […]}``."""
        return {"title": self.title, "why": self.why, "steps": [step.to_dict() for step in self.steps]}


# Called with the check's target and the evidence of its last outcome.
GuideMaker = Callable[[str, dict[str, Any]], Guide]
G = TypeVar("G", bound=GuideMaker)
_guides: dict[str, GuideMaker] = {}


def register_guide(*check_ids: str) -> Callable[[G], G]:
    """Decorator: ``def guide(target: str, evidence: dict) -> Guide`` renders the remedy of these checks.

    It must render without evidence too (nobody has run the check yet), and must not ask outside servers.
    """

    def register(function: G) -> G:
        for check_id in check_ids:
            known = _guides.get(check_id)
            place = (function.__module__, function.__qualname__)
            if known is not None and (known.__module__, known.__qualname__) != place:
                raise ValueError(f"The check {check_id!r} has a guide already, by {known.__module__}.")
            _guides[check_id] = function
        return function

    return register


def has_guide(check_id: str) -> bool:
    """Whether there is a guide for the check."""
    return check_id in _guides


def guide_for(check_id: str, target: str = "", evidence: dict[str, Any] | None = None) -> Guide | None:
    """The rendered guide of a check, None when it has none. Without ``evidence`` the last outcome's is taken."""
    maker = _guides.get(check_id)
    if maker is None:
        return None
    if evidence is None:
        from ops.models import CheckState

        state = CheckState.objects.filter(check_id=check_id, target=target).first()
        evidence = dict(state.evidence) if state is not None else {}
    return maker(target, evidence)
