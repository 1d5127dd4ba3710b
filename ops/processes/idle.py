"""A process that does nothing but report itself, and misbehave as it is told: for showing what the doctor sees.

Its reports are the same as every other process's, and so is the way in which it ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from ops.processes.cgroup import Cgroup
from ops.processes.reporter import Reporter


@dataclass(frozen=True, slots=True)
class Manners:
    """How it behaves. ``cgroup`` is a folder that stands for its control group; ``grew_mb`` makes up a past of six hours in which
    it grew by so much; ``seconds`` is how long it lives at most."""

    role: str = "worker"
    eat_mb: int = 0
    burn: bool = False
    never_ready: bool = False
    grew_mb: int = 0
    cgroup: str = ""
    age: float = 0.0
    interval: float = 1.0
    seconds: float = 900.0


def run(manners: Manners) -> None:
    """Live as told until asked to end, or until the time is up."""
    if manners.age:
        from ops.processes.facts import RESTARTED_AT

        os.environ[RESTARTED_AT] = str(time.time() - manners.age)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    held = bytearray(b"\1" * (manners.eat_mb * 2**20))
    reporter = Reporter(
        manners.role,
        on_drain=lambda request: stop.set(),
        interval=manners.interval,
        cgroup=Cgroup([Path(manners.cgroup)]) if manners.cgroup else None,
        samples=past(manners.grew_mb) if manners.grew_mb else None,
    )
    reporter.start()
    if not manners.never_ready:
        reporter.ready()
    if manners.burn:
        # One that comes first keeps one processor busy and leaves the others alone. Where we may not, many together get more than one.
        for _ in range(1 if _come_first() else 3 * (os.cpu_count() or 2)):
            threading.Thread(target=_burn, args=(stop,), daemon=True).start()
    stop.wait(manners.seconds)
    reporter.end("Ended as asked.")
    del held
    sys.exit(0)


def past(grew_mb: int, hours: float = 6.0) -> list[list[float]]:
    """Samples of a process that grew steadily until now, and whose work stayed the same."""
    now = time.time()
    size = 80 * 2**20
    count = 60
    return [
        [
            round(now - hours * 3600 * (count - n) / count),
            size + grew_mb * 2**20 * n // count,
            round(hours * 36 * n / count, 1),
        ]
        for n in range(count)
    ]


def _come_first() -> bool:
    """Take a processor before others do, if we may: a share among many would not look like a burning process."""
    try:
        os.nice(-15)
    except OSError:
        return False
    with contextlib.suppress(OSError):
        # Linux shares them out among sessions first.
        Path("/proc/self/autogroup").write_text("-15", encoding="ascii")
    return True


def _burn(stop: threading.Event) -> None:
    # Hashing much at once does without the interpreter's lock, which the report needs as well.
    block = b"\0" * 2**24
    while not stop.is_set():
        hashlib.sha256(block).digest()
