"""Memory and processor time of our processes, as they report them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from ops.live import live, live_options
from ops.models import CheckState, Process
from ops.processes.queries import alive, crashed, label, last_sign
from ops.registry import Affected, CheckOutcome, Fix, register_check
from ops.words import counted

MEMORY_SHARE = 0.8
# Without a limit a process is taken for too big above this.
MEMORY_BYTES = 1536 * 2**20
CPU_PERCENT = 90.0
GROWTH_PERCENT_PER_HOUR = 5.0
# A slope needs so many hours, after the first minutes in which every process grows.
GROWTH_HOURS = 2.0
_WARM_UP = 600.0
_LEAST_GROWTH = 20 * 2**20
_BUSIER = 1.5
OOM_REMEMBERED = timedelta(hours=24)
_MB = 2**20


def memory_high(row: Process) -> bool:
    """Above 80 % of its limit; above 1.5 GB where there is no limit."""
    return row.rss_bytes > (MEMORY_SHARE * row.memory_limit_bytes if row.memory_limit_bytes else MEMORY_BYTES)


def cpu_high(row: Process) -> bool:
    """Keeps nearly a whole processor busy: the interpreter cannot use more than that for Python."""
    return row.cpu_percent >= CPU_PERCENT


def growth_percent(row: Process) -> float | None:
    """By how much its memory grows, in percent an hour, when it has grown steadily though its work has not; else None.

    The slope of a line through the samples of up to six hours. Its work is its processor time.
    """
    samples = [sample for sample in row.samples if len(sample) == 3]
    if not samples:
        return None
    began = samples[0][0] + _WARM_UP
    samples = [sample for sample in samples if sample[0] >= began]
    if len(samples) < 6 or samples[-1][0] - samples[0][0] < GROWTH_HOURS * 3600:
        return None
    if samples[-1][1] - samples[0][1] < _LEAST_GROWTH or _busier(samples):
        return None
    times = [sample[0] / 3600 for sample in samples]
    sizes = [float(sample[1]) for sample in samples]
    middle, mean = math.fsum(times) / len(times), math.fsum(sizes) / len(sizes)
    across = math.fsum((t - middle) ** 2 for t in times)
    slope = math.fsum((t - middle) * (size - mean) for t, size in zip(times, sizes, strict=True)) / across
    percent = 100 * slope / mean
    return percent if percent > GROWTH_PERCENT_PER_HOUR else None


def _busier(samples: list[list[float]]) -> bool:
    half = len(samples) // 2

    def rate(part: list[list[float]]) -> float:
        seconds = part[-1][0] - part[0][0]
        return (part[-1][2] - part[0][2]) / seconds if seconds > 0 else 0.0

    first, second = rate(samples[: half + 1]), rate(samples[half:])
    return second > _BUSIER * first and second > 0.02


def troubles_of(row: Process) -> list[str]:
    """Ids of the checks that this process turns red; none once it was asked to end."""
    if row.drain_requested_at is not None:
        return []
    found = [("res.memory_high", memory_high(row)), ("res.cpu_high", cpu_high(row))]
    found.append(("res.memory_growth", growth_percent(row) is not None))
    return [id for id, bad in found if bad]


def _usage(row: Process) -> dict[str, Any]:
    return {
        "role": row.role,
        "host": row.host,
        "pid": row.pid,
        "rss_mb": round(row.rss_bytes / _MB),
        "limit_mb": round(row.memory_limit_bytes / _MB) if row.memory_limit_bytes else None,
        "cpu_percent": row.cpu_percent,
        "threads": row.threads,
        "open_files": row.open_files,
        "since": row.started_at.isoformat(),
    }


def _found(rows: Iterable[tuple[Process, str]], status: str, sentence: str, fix: Fix | None = None) -> CheckOutcome:
    listed = list(rows)
    affected = tuple(Affected(f"process:{row.pk}", text, _usage(row)) for row, text in listed)
    evidence = {"processes": [_usage(row) for row, _ in listed[:10]]}
    return CheckOutcome(status, sentence, evidence, affected, fix)  # type: ignore[arg-type]


def _rows() -> list[Process]:
    return [row for row in alive() if row.drain_requested_at is None]


@register_check(
    "res.memory_high",
    title="No process uses too much memory",
    tags=("resources", "processes"),
    interval=30,
    severity="warning",
    depends_on=("db.reachable",),
    opens_after=2,
    repairs=("service.recycle",),
)
def check_memory_high() -> CheckOutcome:
    """Red above 80 % of the limit of a process's control group (container, unit), or above 1.5 GB where there is none."""
    rows = _rows()
    bad = [(row, _memory_words(row)) for row in rows if memory_high(row)]
    if bad:
        sentence = (
            f"{bad[0][1]} At its limit the kernel kills it. Recycle it: it ends after its current work and starts anew."
        )
        return _found(bad, "fail", sentence)
    return CheckOutcome(
        "pass",
        f"{counted(len(rows), 'process reports, below its limits', 'processes report, all below their limits')}.",
        {"processes": [_usage(r) for r in rows[:10]]},
    )


def _memory_words(row: Process) -> str:
    size = f"{label(row).capitalize()} uses {row.rss_bytes / _MB:.0f} MB"
    if row.memory_limit_bytes:
        return f"{size}, {row.rss_bytes / row.memory_limit_bytes:.0%} of its limit of {row.memory_limit_bytes / _MB:.0f} MB."
    return f"{size}; it has no limit."


@register_check(
    "res.memory_growth",
    title="No process grows and grows",
    tags=("resources", "processes"),
    interval=300,
    severity="warning",
    depends_on=("db.reachable",),
    repairs=("service.recycle",),
)
def check_memory_growth() -> CheckOutcome:
    """Red when memory rose by more than 5 % an hour over hours in which the process worked no more than before."""
    bad = []
    for row in _rows():
        percent = growth_percent(row)
        if percent is not None:
            hours = (row.samples[-1][0] - row.samples[0][0]) / 3600
            grown = (row.samples[-1][1] - row.samples[0][1]) / _MB
            bad.append(
                (row, f"{label(row).capitalize()} grew by {grown:.0f} MB in {hours:.1f} h, {percent:.0f} % an hour.")
            )
    if bad:
        return _found(
            bad, "fail", f"{bad[0][1]} Its work did not grow with it: something is kept that should go. Recycle it."
        )
    return CheckOutcome("pass", "No process grows steadily.")


@register_check(
    "res.cpu_high",
    title="No process keeps a processor busy",
    tags=("resources", "processes"),
    interval=30,
    severity="warning",
    depends_on=("db.reachable",),
    opens_after=2,
    repairs=("service.recycle", "sync.set_interval"),
)
def check_cpu_high() -> CheckOutcome:
    """Red when a process keeps 90 % of a processor busy, averaged over half a minute, twice in a row.

    What dominates decides what is proposed: a sync that comes round every few seconds, else the process is replaced, which
    ends whatever turns in a circle.
    """
    rows = _rows()
    bad = [
        (row, f"{label(row).capitalize()} uses {row.cpu_percent:.0f} % of a processor.")
        for row in rows
        if cpu_high(row)
    ]
    if not bad:
        return CheckOutcome(
            "pass", "No process keeps a processor busy.", {"processes": [_usage(row) for row in rows[:10]]}
        )
    interval = _live("SYNC_INTERVAL")
    level = str(_live("LOG_LEVEL") or "")
    tight = isinstance(interval, (int, float)) and interval < 30 and any(row.role in ("worker", "up") for row, _ in bad)
    why = (
        f" Sync comes round every {interval:g} s: raise that first."
        if tight
        else " Recycle it if it does not calm down."
    )
    if level == "debug":
        why += " It logs every detail (LOG_LEVEL is debug)."
    outcome = _found(bad, "fail", f"{bad[0][1]}{why}", Fix("sync.set_interval") if tight else Fix("service.recycle"))
    outcome.evidence.update({"sync_interval": interval, "log_level": level})
    return outcome


def _live(key: str) -> Any:
    return live(key) if key in {option.key for option in live_options()} else None


@register_check(
    "res.oom",
    title="The kernel killed nothing for want of memory",
    tags=("resources", "processes"),
    interval=60,
    severity="critical",
    depends_on=("db.reachable",),
)
def check_oom() -> CheckOutcome:
    """Red for a day after the counter of kills of a process's control group rose, or after one died close to its limit.

    The counter lives as long as the container: what counts is when it rose, which this check remembers in its evidence.
    """
    now = timezone.now()
    rows = list(
        Process.objects.filter(seen_at__gt=now - OOM_REMEMBERED)
        .order_by("-seen_at")
        .defer("settings_seen", "reach")[:500]
    )
    groups = _groups(rows, _remembered(), now)
    fresh = {place: known for place, known in groups.items() if known["kills"] and _since(known, now) < OOM_REMEMBERED}
    near = [row for row in rows if _died_full(row, now)]
    evidence: dict[str, Any] = {"groups": groups, "died_full": [_usage(row) for row in near[:10]]}
    if not fresh and not near:
        return CheckOutcome("pass", "The kernel has killed nothing of ours for want of memory today.", evidence)
    if fresh:
        place, known = max(fresh.items(), key=lambda item: int(item[1]["kills"]))
        limit = f" at a limit of {known['limit_mb']} MB" if known["limit_mb"] else ""
        sentence = f"The kernel killed {counted(int(known['kills']), 'time')} for want of memory on {place}{limit}. Raise the limit, or find what grows."
    else:
        row = near[0]
        sentence = (
            f"{label(row).capitalize()} was killed without a word at {row.rss_bytes / _MB:.0f} MB of {(row.memory_limit_bytes or 0) / _MB:.0f} MB: "
            "most likely by the kernel, for want of memory. Raise the limit, or find what grows."
        )
    affected = tuple(
        Affected(f"process:{row.pk}", _memory_words(row)) for row in (near or [r for r in rows if r.oom_kills])[:20]
    )
    return CheckOutcome("fail", sentence, evidence, affected)


def _remembered() -> dict[str, Any]:
    evidence = CheckState.objects.filter(check_id="res.oom", target="").values_list("evidence", flat=True).first() or {}
    groups = evidence.get("groups")
    return groups if isinstance(groups, dict) else {}


def _groups(rows: list[Process], before: dict[str, Any], now: datetime) -> dict[str, dict[str, Any]]:
    """By host: kills, when they last rose, the limit, and the biggest size that was seen."""
    groups: dict[str, dict[str, Any]] = {}
    for row in rows:
        known = groups.setdefault(row.host, {"kills": 0, "rose_at": None, "limit_mb": None, "peak_mb": 0})
        known["kills"] = max(known["kills"], row.oom_kills)
        if row.memory_limit_bytes and known["limit_mb"] is None:
            known["limit_mb"] = round(row.memory_limit_bytes / _MB)
        peak = max([row.rss_bytes, *(int(sample[1]) for sample in row.samples if len(sample) == 3)])
        known["peak_mb"] = max(known["peak_mb"], round(peak / _MB))
    for host, known in groups.items():
        old = before.get(host) or {}
        rose = known["kills"] > int(old.get("kills") or 0)
        known["rose_at"] = now.isoformat() if rose else old.get("rose_at")
    return groups


def _since(known: dict[str, Any], now: datetime) -> timedelta:
    rose = parse_datetime(known["rose_at"]) if known.get("rose_at") else None
    return now - rose if rose is not None else OOM_REMEMBERED


def _died_full(row: Process, now: datetime) -> bool:
    limit = row.memory_limit_bytes
    return (
        bool(limit)
        and row.ended_at is None
        and row.rss_bytes > 0.9 * (limit or 0)
        and crashed(row, now)
        and now - last_sign(row) < OOM_REMEMBERED
    )
