"""The catalogue of known failures, and how each is covered: by a check, or by a design that makes it impossible.

``catalogue.toml`` holds what is known about the failures; the coverage is registered by the apps. ``docs/repairs.md`` is made
from both, and a test fails for an entry that is neither covered nor listed as open.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from ops.findings import Severity
from ops.registry import Check, all_checks

_FILE = Path(__file__).with_name("catalogue.toml")

Coverage = Literal["repair", "guide", "check", "impossible", "open"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One known failure: what the operator sees (``symptom``) and why it happens (``cause``)."""

    number: int
    id: str
    group: str
    severity: Severity
    symptom: str
    cause: str


@dataclass(frozen=True, slots=True)
class Impossible:
    """Why an entry cannot happen here, and the tests that prove it (``path::name``)."""

    because: str
    proof: tuple[str, ...]


_impossible: dict[str, Impossible] = {}
_proofs: dict[str, tuple[str, ...]] = {}
_open: dict[str, str] = {}


@lru_cache(maxsize=1)
def entries() -> tuple[Entry, ...]:
    """All entries, by number."""
    return tuple(Entry(**row) for row in tomllib.loads(_FILE.read_text())["entries"])


@lru_cache(maxsize=1)
def groups() -> dict[str, str]:
    """Titles of the groups by their letter."""
    return {letter: row["title"] for letter, row in tomllib.loads(_FILE.read_text())["groups"].items()}


def get_entry(wanted: str) -> Entry | None:
    """The entry with this id or number, or None."""
    return next((entry for entry in entries() if wanted in (entry.id, str(entry.number))), None)


def register_impossible(id: str, *, because: str, proof: tuple[str, ...]) -> None:
    """Say that the design makes an entry impossible, and which tests prove that."""
    _known(id)
    if not proof:
        raise ValueError(f"{id}: what proves that it is impossible?")
    _impossible[id] = Impossible(because, proof)


def register_proof(id: str, *proof: str) -> None:
    """Name tests that prove an entry's check and repair besides the proof of its fault."""
    _known(id)
    _proofs[id] = tuple(dict.fromkeys((*_proofs.get(id, ()), *proof)))


def register_open(id: str, *, part: str) -> None:
    """Say that an entry concerns a part that is not built yet."""
    _known(id)
    _open[id] = part


def impossible(id: str) -> Impossible | None:
    """Why the entry cannot happen, or None."""
    return _impossible.get(id)


def proofs_of(id: str) -> tuple[str, ...]:
    """The tests that were named for an entry."""
    known = _impossible.get(id)
    return tuple(dict.fromkeys((*(known.proof if known else ()), *_proofs.get(id, ()))))


def open_part(id: str) -> str:
    """The part for which the entry waits, "" when it does not."""
    return _open.get(id, "")


def checks_of(id: str) -> list[Check]:
    """The checks that detect an entry: the one with its id first."""
    found = [check for check in all_checks() if check.id == id or id in check.covers]
    return sorted(found, key=lambda check: check.id != id)


def entry_of(check: Check) -> Entry | None:
    """The entry that a check is about."""
    return get_entry(check.id) or next((get_entry(id) for id in check.covers), None)


def coverage(id: str) -> Coverage | None:
    """How an entry is covered; None when it is not."""
    from ops.doctor.guides import has_guide

    checks = checks_of(id)
    if any(check.repairs for check in checks):
        return "repair"
    if any(has_guide(check.id) for check in checks):
        return "guide"
    if id in _impossible:
        return "impossible"
    if checks:
        return "check"
    return "open" if id in _open else None


def resolve(wanted: str) -> list[str]:
    """Ids of checks for what somebody typed: a check's id, an entry's id or its number. Raises ``ValueError``."""
    ids = {check.id for check in all_checks()}
    if wanted in ids:
        return [wanted]
    entry = get_entry(wanted)
    found = [check.id for check in checks_of(entry.id)] if entry is not None else []
    if found:
        return found
    if entry is not None and entry.id in _impossible:
        raise ValueError(f"{entry.id} cannot happen here: {_impossible[entry.id].because}")
    if entry is not None and entry.id in _open:
        raise ValueError(f"{entry.id} concerns {_open[entry.id]}, which is not built yet.")
    from difflib import get_close_matches

    near = get_close_matches(wanted, [*ids, *(known.id for known in entries())], n=1)
    raise ValueError(f"There is no check {wanted!r}." + (f" Did you mean {near[0]}?" if near else ""))


def _known(id: str) -> None:
    if get_entry(id) is None:
        raise ValueError(f"The catalogue has no entry {id!r}.")
