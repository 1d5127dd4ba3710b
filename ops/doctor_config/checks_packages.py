"""Check of Python environments: one for each program, the same packages in every process, and no conflicts."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable

from ops.configuration.packages import conflicts, foreign_here
from ops.models import Process
from ops.processes.queries import alive
from ops.registry import CheckOutcome, register_check


@register_check(
    "config.mixed_venv",
    title="Switchboard has a Python environment of its own, whose packages fit together",
    tags=("config", "processes"),
    interval=3600,
    severity="warning",
    timeout=120,
    depends_on=("db.reachable",),
)
def mixed_venv() -> CheckOutcome:
    """``pip check`` in every environment that our processes on this machine run from, other programs in them, and processes whose
    packages differ: installed after they had started, or another release."""
    processes = alive()
    here = [row for row in processes if row.host == socket.gethostname() and row.prefix]
    prefixes = sorted({sys.prefix, *(row.prefix for row in here)})
    broken: dict[str, list[str]] = {}
    shared: dict[str, list[str]] = {}
    silent: list[str] = []
    for prefix in prefixes:
        found = conflicts(prefix)
        if found is None:
            silent.append(prefix)
        if found:
            broken[prefix] = found[:20]
        others = [f"{name} {version}" for name, version in foreign_here(prefix)]
        if others:
            shared[prefix] = others
    unlike = _digests(processes)
    evidence = {
        "prefixes": prefixes,
        "conflicts": broken,
        "shared_with": shared,
        "digests": unlike,
        "not_asked": silent,
    }
    if broken:
        prefix, lines = next(iter(broken.items()))
        more = f" ({len(lines) - 1} more)" if len(lines) > 1 else ""
        sentence = f"Packages in {prefix} do not fit together: {lines[0]}{more}. Make the environment anew."
        return CheckOutcome("fail", sentence, evidence)
    if shared:
        prefix, names = next(iter(shared.items()))
        sentence = f"{', '.join(names)} shares the environment {prefix} with Switchboard: give it one of its own."
        return CheckOutcome("fail", sentence, evidence)
    if len(unlike) > 1:
        return CheckOutcome(
            "fail",
            f"Processes run with {len(unlike)} different sets of packages: {_groups(unlike)}. Restart the older ones.",
            evidence,
        )
    if silent:
        # Nothing found is not the same as nothing wrong.
        return CheckOutcome(
            "skip",
            f"Whether the packages in {', '.join(silent)} fit together is not known: pip gave no answer there.",
            evidence,
        )
    words = "environment is" if len(prefixes) == 1 else "environments are"
    return CheckOutcome("pass", f"{len(prefixes)} Python {words} in order.", evidence)


def _digests(processes: Iterable[Process]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in processes:
        if row.packages_digest:
            found.setdefault(row.packages_digest[:12], []).append(f"{row.role} {row.host}:{row.pid}")
    return found


def _groups(unlike: dict[str, list[str]]) -> str:
    return "; ".join(", ".join(rows[:3]) for rows in unlike.values())
