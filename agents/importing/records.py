"""What readers hand on: records with the place where they stand, and what was wrong with a file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from agents.models import ImportAction
from ops.findings import Finding


@dataclass(frozen=True, slots=True)
class Raw:
    """One entry of a file as it was found. ``key`` is its key in the surrounding object ("" in a list).

    ``line`` and ``column`` count from 1; ``hint`` is the name of its table, or its kind in a file of rejects. ``twice`` is the line on
    which the same key stands again. ``garbled``: it holds bytes that were no UTF-8.
    """

    key: str
    value: Any
    source: str
    line: int | None = None
    column: int | None = None
    hint: str = ""
    twice: int | None = None
    garbled: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """One entry, understood. ``fields`` are its values under our names (they may hold secrets), ``notes`` sentences for people.

    ``problem`` is (code, sentence) when it cannot be taken.
    """

    kind: str
    key: str
    raw: Raw
    fields: dict[str, Any] = field(default_factory=dict)
    label: str = ""
    notes: tuple[str, ...] = ()
    problem: tuple[str, str] | None = None

    def refused(self, code: str, sentence: str) -> Record:
        """The same record, which cannot be taken."""
        return replace(self, problem=(code, sentence))


@dataclass(slots=True)
class Reading:
    """What one file (or database) held. ``findings`` concern the file itself and carry line and column."""

    name: str
    kind: str = ""
    size: int = 0
    sha256: str = ""
    records: list[Record] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON shape of ``MappingImport.sources``: ``{name, kind, size, sha256, records, problems}``."""
        return {
            "name": self.name,
            "kind": self.kind,
            "size": self.size,
            "sha256": self.sha256,
            "records": len(self.records),
            "problems": sum(finding.severity != "info" for finding in self.findings),
        }


@dataclass(slots=True)
class Planned:
    """What a record means for us. The three sides are flat and have the same keys; ``data`` is what applying it needs besides."""

    record: Record
    action: ImportAction
    code: str = ""
    sentence: str = ""
    stored: dict[str, Any] = field(default_factory=dict)
    file: dict[str, Any] = field(default_factory=dict)
    homeserver: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)


BROKEN = "broken"


def rejected(record: Record) -> Planned:
    """A record whose reader found that it cannot be taken; one that stands again further down needs not be."""
    assert record.problem is not None
    code, sentence = record.problem
    action = ImportAction.UNCHANGED if code.endswith(".repeated") else ImportAction.REJECT
    return Planned(record, action, code, sentence)
