"""Small measuring tools: percentiles, and what processes cost."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
_TICKS = os.sysconf("SC_CLK_TCK")
_MARK = "@@"


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least ``share`` (0 to 1) of them do not exceed."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Iterable[float]) -> float:
    """The middle one; of an even number of values the mean of the two in the middle."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def spread(values: Sequence[float]) -> dict[str, float]:
    """What a result file keeps of many values."""
    if not values:
        return {"n": 0}
    named = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
    found = {name: round(percentile(values, share), 3) for name, share in named.items()}
    return {"n": len(values), "min": round(min(values), 3), **found, "max": round(max(values), 3)}


def cpu_seconds(*pids: int) -> float:
    """Processor time that processes and their ended children have used so far, user and system together."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(int(fields[place]) for place in (11, 12, 13, 14))
    return total / _TICKS


def rss_mb(*pids: int) -> float:
    """Memory that processes hold now, in MB."""
    return sum(_status(pid, "VmRSS") for pid in pids) / 1024


def peak_rss_mb(pid: int | str = "self") -> float:
    """The most memory that a process has held, in MB."""
    return _status(pid, "VmHWM") / 1024


def _status(pid: int | str, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    return 0


def run_inside(module: str, environment: Mapping[str, str], *, timeout: float = 900, **arguments: Any) -> Any:
    """Run ``bench.inside.MODULE`` with these settings; its ``main(**arguments)`` returns JSON-able data, which is returned here."""
    done = subprocess.run(
        [sys.executable, "-m", f"bench.inside.{module}", json.dumps(arguments)],
        cwd=PROJECT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(
            f"bench.inside.{module} ended with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        )
    return json.loads(done.stdout.rpartition(_MARK)[2])


def answer(value: Any) -> None:
    """What a script inside prints last."""
    sys.stdout.write(f"\n{_MARK}{json.dumps(value, default=str)}")
