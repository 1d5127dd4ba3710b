"""What apps try in a drill, once the rows are in the scratch database: each app registers its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ops.findings import Finding


class ProbeFailed(Exception):
    """What was tried does not work; the text says what and why."""


@dataclass(slots=True)
class Probing:
    """What a probe gets in hand. The default database is the scratch one, and nothing outside of this process can be reached.

    ``data_dir``: the scratch data directory; ``counts``: what components said when they put their files back, by name.
    """

    data_dir: Path
    counts: Mapping[str, Mapping[str, int]]
    say: Callable[[Finding], None]
    extra: dict[str, Any] = field(default_factory=dict)


ProbeFunction = Callable[[Probing], str]
_probes: dict[str, ProbeFunction] = {}


def register_probe(name: str, function: ProbeFunction) -> None:
    """Have something tried in every drill, in the order of registration. It returns a sentence, or raises ``ProbeFailed``."""
    _probes[name] = function


def probes() -> dict[str, ProbeFunction]:
    """All probes by name."""
    return dict(_probes)
