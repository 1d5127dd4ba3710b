"""Faults: ways to cause a known failure for real, so that anyone can watch it being found and mended.

Used by ``manage.py demo --break`` (embedded mode or DEBUG only) and by the proof of the catalogue: break, red, plan, repair, green.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings

# What a fault needs around it; the proof brings it up.
NEEDS = ("homeserver", "backend", "letta", "postgres", "redis", "stack")


class FaultRefused(Exception):
    """The fault is not caused: this is no place for it. The text says why."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A registered fault of a check.

    ``cause()`` breaks something and returns JSON that ``heal(memory)`` needs to mend it by hand; ``heal`` is safe to call after a
    repair has mended it. ``needs`` says what has to be there (see ``NEEDS``; nothing: the database alone). ``also`` are checks
    that turn red with it besides its dependants, for a reason that ``why_also`` gives. ``target`` is the check's target that
    turns red; ``repair_params`` fill the repair's form. ``evidence`` are keys that the red outcome's evidence must hold.
    """

    check_id: str
    title: str
    cause: Callable[[], dict[str, Any]]
    heal: Callable[[dict[str, Any]], None]
    needs: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    why_also: str = ""
    target: Callable[[dict[str, Any]], str] | None = None
    repair: str = ""
    repair_target: Callable[[dict[str, Any]], str] | None = None
    repair_params: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    evidence: tuple[str, ...] = ()


_faults: dict[str, Fault] = {}


def register_fault(
    check_id: str,
    *,
    title: str,
    cause: Callable[[], dict[str, Any]],
    heal: Callable[[dict[str, Any]], None],
    needs: Sequence[str] = (),
    also: Sequence[str] = (),
    why_also: str = "",
    target: Callable[[dict[str, Any]], str] | None = None,
    repair: str = "",
    repair_target: Callable[[dict[str, Any]], str] | None = None,
    repair_params: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    evidence: Sequence[str] = (),
) -> Fault:
    """Make a fault known; see ``Fault``. Without ``repair`` the one that the check proposes mends it, or its guide."""
    unknown = set(needs) - set(NEEDS)
    if unknown:
        raise ValueError(f"A fault cannot need {', '.join(sorted(unknown))}.")
    if also and not why_also:
        raise ValueError(f"{check_id}: say why {', '.join(also)} turn red as well.")
    _faults[check_id] = Fault(
        check_id=check_id,
        title=title,
        cause=cause,
        heal=heal,
        needs=tuple(needs),
        also=tuple(also),
        why_also=why_also,
        target=target,
        repair=repair,
        repair_target=repair_target,
        repair_params=repair_params,
        evidence=tuple(evidence),
    )
    return _faults[check_id]


def get_fault(check_id: str) -> Fault | None:
    """The registered fault of a check, or None."""
    return _faults.get(check_id)


def all_faults() -> list[Fault]:
    """All registered faults, by check."""
    return [_faults[id] for id in sorted(_faults)]


def refuse_outside_demo() -> None:
    """Raises ``FaultRefused`` where somebody may depend on this installation."""
    if not (settings.EMBEDDED or settings.DEBUG):
        raise FaultRefused(
            "Faults are caused in embedded mode or with DEBUG only: people may depend on this installation."
        )
