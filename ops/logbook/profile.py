"""A sampling profile of a running process: looks at the stacks of all threads many times a second, for some seconds, from outside
of what they do. Needs no restart, changes nothing, and measures what it costs itself."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

INTERVAL = 0.01
LONGEST_SECONDS = 120
MOST_STACKS = 3000
DEEPEST = 120
# Looking may take this share of the time; it looks less often when it would take more.
_MOST_SHARE = 0.04
_ROOT = str(Path(__file__).resolve().parents[2])

# A thread whose innermost frame is one of these waits and does not work.
_WAITING = frozenset(
    {
        *(
            "wait",
            "_wait_for_tstate_lock",
            "select",
            "poll",
            "epoll",
            "accept",
            "recv",
            "recv_into",
            "read",
            "readinto",
        ),
        *("get", "acquire", "sleep", "join", "_worker", "wait_for", "kqueue", "drain_events", "_recv_msg", "_wait"),
    }
)
_WAITING_FILES = ("threading.py", "selectors.py", "queue.py", "socket.py", "ssl.py", "thread.py", "subprocess.py")

# A thread that used less of the processor since the last look than this waited in between.
_LEAST_NS = 300_000

Stack = tuple[CodeType, ...]


def sample(
    seconds: float,
    *,
    interval: float = INTERVAL,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    """Profile this process for ``seconds``. JSON shape: ``{seconds, samples, interval_ms, overhead_percent, threads: [{name,
    cpu_seconds, samples, working}], top: [{function, place, own, total}], stacks: [[thread;outer;…;inner, count]…], left_out}``.

    ``own`` and ``total`` are shares of the samples in which a thread worked, in percent.
    """
    seconds = min(max(0.1, seconds), LONGEST_SECONDS)
    own_id = threading.get_ident()
    known: dict[int, threading.Thread] = {}
    ran: dict[int, int] = {}
    counts: Counter[tuple[str, bool, Stack]] = Counter()
    cpu_before = _cpu_by_thread()
    started = time.perf_counter()
    end = started + seconds
    busy, rounds, wait, told = 0.0, 0, interval, 0.0
    while (now := time.perf_counter()) < end and not should_stop():
        known |= {thread.ident or 0: thread for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():
            if ident == own_id:
                continue
            thread = known.get(ident)
            # In a call of C code (a sleep, a query) only the processor's clock tells waiting from working.
            before, ran[ident] = ran.get(ident), _processor_ns(thread)
            idle = before is not None and ran[ident] >= 0 and ran[ident] - before < _LEAST_NS
            name = _name(thread.name if thread is not None else "")
            counts[name, idle or _waits(frame), _stack(frame)] += 1
        rounds += 1
        took = time.perf_counter() - now
        busy += took
        wait = max(interval, took / _MOST_SHARE - took)
        if now - told > 0.5:
            told = now
            progress((now - started) / seconds)
        time.sleep(max(0.0, min(wait, end - time.perf_counter())))
    elapsed = max(1e-6, time.perf_counter() - started)
    return {
        "seconds": round(elapsed, 2),
        "samples": rounds,
        "interval_ms": round(elapsed / max(1, rounds) * 1000, 1),
        "overhead_percent": round(100 * busy / elapsed, 2),
        "threads": _threads(counts, cpu_before),
        **_tables(counts),
    }


def _name(name: str) -> str:
    """Threads of one pool are one line: what differs is their number."""
    return name.rstrip("0123456789-_ ") or "thread"


def _stack(frame: FrameType | None) -> Stack:
    found: list[CodeType] = []
    while frame is not None and len(found) < DEEPEST:
        found.append(frame.f_code)
        frame = frame.f_back
    return tuple(reversed(found))


def _waits(frame: FrameType) -> bool:
    code = frame.f_code
    return code.co_name in _WAITING and code.co_filename.endswith(_WAITING_FILES)


def _processor_ns(thread: threading.Thread | None) -> int:
    """How long the thread was on a processor so far, in nanoseconds; -1 where the kernel does not tell (proc(5), schedstat)."""
    try:
        with open(f"/proc/self/task/{thread.native_id if thread is not None else 0}/schedstat", "rb") as file:
            return int(file.read().split()[0])
    except (OSError, ValueError, IndexError):
        return -1


def _cpu_by_thread() -> dict[str, float]:
    """Processor seconds of each thread's name so far; empty where the kernel does not tell."""
    found: dict[str, float] = {}
    for thread in threading.enumerate():
        used = _processor_ns(thread)
        if used >= 0:
            name = _name(thread.name)
            found[name] = found.get(name, 0.0) + used / 1e9
    return found


def _threads(counts: Counter[tuple[str, bool, Stack]], before: dict[str, float]) -> list[dict[str, Any]]:
    after = _cpu_by_thread()
    rows: dict[str, dict[str, Any]] = {}
    for (name, waits, _), count in counts.items():
        row = rows.setdefault(name, {"name": name, "cpu_seconds": 0.0, "samples": 0, "working": 0})
        row["samples"] += count
        row["working"] += 0 if waits else count
        row["cpu_seconds"] = round(max(0.0, after.get(name, 0.0) - before.get(name, 0.0)), 2)
    return sorted(rows.values(), key=lambda row: (-row["cpu_seconds"], -row["working"], row["name"]))[:100]


def label(code: CodeType) -> str:
    """``function (file:line)``, with the file's path from the project or the package."""
    path = code.co_filename
    if path.startswith(_ROOT):
        path = path[len(_ROOT) + 1 :]
    if "site-packages/" in path:
        path = path.rpartition("site-packages/")[2]
    elif path.startswith("/"):
        path = "/".join(path.split("/")[-2:])
    return (
        f"{code.co_qualname if sys.version_info >= (3, 11) else code.co_name} ({path}:{code.co_firstlineno})".replace(
            ";", ","
        )
    )


def _tables(counts: Counter[tuple[str, bool, Stack]]) -> dict[str, Any]:
    own: Counter[CodeType] = Counter()
    total: Counter[CodeType] = Counter()
    working = 0
    for (_, waits, stack), count in counts.items():
        if waits or not stack:
            continue
        working += count
        own[stack[-1]] += count
        for code in set(stack):
            total[code] += count
    labels: dict[CodeType, str] = {}

    def name(code: CodeType) -> str:
        if code not in labels:
            labels[code] = label(code)
        return labels[code]

    share = 100 / max(1, working)
    ranked = sorted(total, key=lambda code: (-own[code], -total[code]))[:100]
    stacks: Counter[str] = Counter()
    for (thread, waits, stack), count in counts.items():
        if not waits:
            stacks[";".join((thread.replace(";", ","), *(name(code) for code in stack)))] += count
    most = stacks.most_common(MOST_STACKS)
    return {
        "working": working,
        "top": [
            {"function": name(code), "own": round(own[code] * share, 1), "total": round(total[code] * share, 1)}
            for code in ranked
        ],
        "stacks": [[line, count] for line, count in most],
        "left_out": sum(stacks.values()) - sum(count for _, count in most),
    }


def collapsed(result: dict[str, Any]) -> str:
    """One stack a line with its count, as flame graph tools read them."""
    return "".join(f"{line} {count}\n" for line, count in result.get("stacks", []))


def speedscope(result: dict[str, Any], name: str) -> dict[str, Any]:
    """The file format of speedscope.app (https://www.speedscope.app/file-format-schema.json), weights in milliseconds."""
    frames: dict[str, int] = {}
    samples: list[list[int]] = []
    weights: list[float] = []
    for line, count in result.get("stacks", []):
        samples.append([frames.setdefault(part, len(frames)) for part in line.split(";")])
        weights.append(count * float(result.get("interval_ms", INTERVAL * 1000)))
    return {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "name": name,
        "exporter": "switchboard",
        "activeProfileIndex": 0,
        "shared": {"frames": [{"name": part} for part in frames]},
        "profiles": [
            {
                "type": "sampled",
                "name": name,
                "unit": "milliseconds",
                "startValue": 0,
                "endValue": sum(weights),
                "samples": samples,
                "weights": weights,
            }
        ],
    }


def flame(stacks: Iterable[tuple[str, int]], *, least_share: float = 0.004) -> list[dict[str, Any]]:
    """Boxes of a flame view, outermost first: ``{name, depth, left, width, count}``, left and width in percent of all samples."""
    rows = sorted((line.split(";"), count) for line, count in stacks)
    total = sum(count for _, count in rows)
    boxes: list[dict[str, Any]] = []

    def lay(first: int, last: int, depth: int, left: int) -> None:
        at = first
        while at < last:
            if len(rows[at][0]) <= depth:
                left += rows[at][1]
                at += 1
                continue
            name, end, width = rows[at][0][depth], at, 0
            while end < last and len(rows[end][0]) > depth and rows[end][0][depth] == name:
                width += rows[end][1]
                end += 1
            if width >= total * least_share and depth < 60:
                boxes.append(
                    {
                        "name": name,
                        "depth": depth,
                        "left": round(100 * left / total, 3),
                        "width": round(100 * width / total, 3),
                        "count": width,
                    }
                )
                lay(at, end, depth + 1, left)
            left += width
            at = end

    if total:
        lay(0, len(rows), 0, 0)
    return boxes
