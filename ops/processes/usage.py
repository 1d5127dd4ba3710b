"""What a process uses: memory, processor time, files, threads, ports. Cheap enough to ask every few seconds."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import psutil

from ops.processes.cgroup import Cgroup, own_cgroup

# The share of a processor is an average over so long: one busy moment is no news.
CPU_WINDOW = 30.0
# ... and what is younger has been idle before: a start is always busy.
CPU_LEAST = 10.0
# Ports are looked for until there are some, and now and then after that.
_PORTS_EVERY = 60.0


@dataclass(frozen=True, slots=True)
class Measured:
    """``cpu_percent`` is of one processor: two busy threads outside of the interpreter's lock make 200."""

    rss_bytes: int
    cpu_seconds: float
    cpu_percent: float
    open_files: int
    threads: int
    memory_limit_bytes: int | None
    oom_kills: int
    ports: list[dict[str, Any]]

    def fields(self) -> dict[str, Any]:
        """As fields of ``ops.models.Process``."""
        return {
            "rss_bytes": self.rss_bytes,
            "memory_limit_bytes": self.memory_limit_bytes,
            "oom_kills": self.oom_kills,
            "cpu_percent": round(self.cpu_percent, 1),
            "open_files": self.open_files,
            "threads": self.threads,
            "ports": self.ports,
        }


class Meter:
    """Measures this process again and again."""

    def __init__(self, cgroup: Cgroup | None = None) -> None:
        self._process = psutil.Process()
        self._cgroup = cgroup if cgroup is not None else own_cgroup()
        self._times: deque[tuple[float, float]] = deque(maxlen=64)
        self._ports: list[dict[str, Any]] = []
        self._ports_at = float("-inf")

    def measure(self) -> Measured:
        """One look. What the system does not tell is 0."""
        process = self._process
        with process.oneshot():
            times = process.cpu_times()
            rss = int(process.memory_info().rss)
            threads = process.num_threads()
        cpu = float(times.user + times.system)
        return Measured(
            rss_bytes=rss,
            cpu_seconds=cpu,
            cpu_percent=self._percent(cpu),
            open_files=self._open_files(),
            threads=threads,
            memory_limit_bytes=self._cgroup.limit_bytes(),
            oom_kills=self._cgroup.oom_kills(),
            ports=self.ports(),
        )

    def _percent(self, cpu: float) -> float:
        now = time.monotonic()
        while len(self._times) > 1 and now - self._times[1][0] >= CPU_WINDOW:
            self._times.popleft()
        self._times.append((now, cpu))
        then, before = self._times[0]
        return 100.0 * (cpu - before) / max(now - then, CPU_LEAST)

    def _open_files(self) -> int:
        try:
            return int(self._process.num_fds())
        except (psutil.Error, AttributeError):
            return 0

    def ports(self) -> list[dict[str, Any]]:
        """``[{address, port}]`` on which this process listens."""
        now = time.monotonic()
        if not self._ports or now - self._ports_at >= _PORTS_EVERY:
            self._ports_at = now
            try:
                listening = [
                    {"address": str(one.laddr.ip), "port": int(one.laddr.port)}
                    for one in self._process.net_connections(kind="tcp")
                    if one.status == psutil.CONN_LISTEN
                ]
            except (psutil.Error, OSError):
                listening = []
            self._ports = sorted(listening, key=lambda one: (one["port"], one["address"]))[:20]
        return self._ports
