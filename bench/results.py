"""What a benchmark found: figures with floors and targets, written as JSON and printed as a table of 80 columns."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

RESULTS = Path(__file__).resolve().parent / "results"
WIDTH = 80
# What every figure depends on; a benchmark adds the servers that it talked to.
PACKAGES = (
    "django",
    "celery",
    "channels",
    "daphne",
    "django-ninja",
    "httpx",
    "matrix-nio",
    "psycopg",
    "redis",
    "websockets",
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. ``floor`` is what the same machine does at best in the same run; the target is held against the ratio
    where there is a floor and ``of_ratio`` is true, else against ``ours``. Without a target it only explains others.
    """

    what: str
    ours: float
    unit: str = ""
    floor: float | None = None
    target: float | None = None
    sense: Literal["<=", ">=", "=="] = "<="
    of_ratio: bool = True

    @property
    def ratio(self) -> float | None:
        """Ours divided by the floor."""
        return self.ours / self.floor if self.floor else None

    @property
    def judged(self) -> float:
        """The number that the target is held against."""
        return self.ratio if self.of_ratio and self.ratio is not None else self.ours

    @property
    def reached(self) -> bool | None:
        """``None`` for a figure without a target."""
        if self.target is None:
            return None
        if self.sense == "==":
            return self.judged == self.target
        return self.judged <= self.target if self.sense == "<=" else self.judged >= self.target

    def to_dict(self) -> dict[str, Any]:
        """As the result file holds it."""
        return {
            "what": self.what,
            "ours": round(self.ours, 4),
            "unit": self.unit,
            "floor": None if self.floor is None else round(self.floor, 4),
            "ratio": None if self.ratio is None else round(self.ratio, 4),
            "target": None if self.target is None else f"{self.sense} {self.target:g}",
            "reached": self.reached,
        }


@dataclass(slots=True)
class Report:
    """Everything that one run found. ``sizes`` says how much of what; ``notes`` are sentences; ``raw`` is kept in the file only."""

    name: str
    sizes: dict[str, Any] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    raw: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def reached(self) -> bool:
        """Whether every figure that has a target reached it."""
        return all(figure.reached is not False for figure in self.figures)

    def to_dict(self, *, size: str) -> dict[str, Any]:
        """As the result file holds it."""
        return {
            "name": self.name,
            "size": size,
            "sizes": self.sizes,
            "reached": self.reached,
            "figures": [figure.to_dict() for figure in self.figures],
            "notes": self.notes,
            "versions": {**package_versions(), **self.versions},
            "machine": machine(),
            "seconds": round(self.seconds, 1),
            "raw": self.raw,
        }


def package_versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Installed versions; a package that is not there is left out."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Where it ran. ``load`` tells how much else was going on."""
    model = platform.processor()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu": model,
        "python": platform.python_version(),
        "system": platform.platform(),
        "load": [round(one, 2) for one in os.getloadavg()],
    }


def write(report: Report, *, size: str, folder: Path = RESULTS) -> Path:
    """Write ``NAME.json`` (replacing an earlier one of the same size) and return its path. The full size is kept apart."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (f"{report.name}.json" if size == "small" else f"{report.name}.{size}.json")
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(report.to_dict(size=size), indent=1, default=str) + "\n", encoding="utf-8")
    temporary.replace(path)
    return path


def table(report: Report, *, size: str) -> str:
    """The report for a terminal, at most 80 columns wide."""
    where = machine()
    head = f"{report.name} ({size}; {where['cores']} cores, Python {where['python']}, load {where['load'][0]})"
    lines = [head[:WIDTH], f"{'figure':<35}{'ours':>12}{'floor':>10}{'ratio':>7}{'target':>10}  ", "-" * WIDTH]
    for figure in report.figures:
        mark = {True: "yes", False: "NO", None: ""}[figure.reached]
        floor = "" if figure.floor is None else _short(figure.floor)
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        target = "" if figure.target is None else f"{figure.sense} {figure.target:g}"
        ours = f"{_short(figure.ours)} {figure.unit}".strip()
        first, *rest = textwrap.wrap(figure.what, 34) or [""]
        lines.append(f"{first:<35}{ours:>12}{floor:>10}{ratio:>7}{target:>10} {mark:>4}".rstrip())
        lines += [f"  {more}" for more in rest]
    for note in report.notes:
        lines += textwrap.wrap(note, WIDTH, initial_indent="· ", subsequent_indent="  ")
    return "\n".join(lines)


def _short(value: float) -> str:
    if value == int(value) and abs(value) < 1e7:
        return str(int(value))
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
