"""The thread with which a process reports itself every ten seconds, and hears when somebody asks it to end.

It is never in the way: a daemon thread with a database connection of its own, whose failures are logged and tried again. A
process that cannot reach its database looks dead to the others, which is what it is to them.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ops.logs import get_logger

if TYPE_CHECKING:
    from ops.processes.cgroup import Cgroup
    from ops.processes.usage import Meter

log = get_logger(__name__)

REPORT_SECONDS = 10.0
# How soon a request to end is heard.
LISTEN_SECONDS = 2.0
# One sample of memory and processor time in five minutes, for six and a half hours.
SAMPLE_SECONDS = 300.0
KEPT_SAMPLES = 78
END_SECONDS = 3.0

# Tests run parts of Switchboard within their own process, which is none of its processes.
enabled = True


@dataclass(frozen=True, slots=True)
class DrainRequest:
    """Somebody asked this process to end after its current work. ``evict``: and nothing shall take its place here."""

    by: str
    evict: bool


def end_this_process(request: DrainRequest) -> None:
    """What web servers, workers and beat do when asked: end as on a signal, which lets current work finish."""
    os.kill(os.getpid(), signal.SIGTERM)


class Reporter(threading.Thread):
    """Reports this process under a role. ``ready()`` says that it does its work now; ``end(reason)`` that it ends.

    ``on_drain`` is called once, in this thread, when somebody asks the process to end; it must return soon.
    """

    def __init__(
        self,
        role: str,
        *,
        on_drain: Callable[[DrainRequest], None] = end_this_process,
        interval: float = REPORT_SECONDS,
        cgroup: Cgroup | None = None,
        samples: list[list[float]] | None = None,
    ) -> None:
        super().__init__(name="process reporter", daemon=True)
        self.role = role
        self.interval = interval
        self.end_reason = ""
        self._on_drain = on_drain
        self._cgroup = cgroup
        self._samples: list[list[float]] = list(samples or [])
        self._meter: Meter | None = None
        self._facts: dict[str, Any] = {}
        self._began = 0.0
        self._ready_after: float | None = None
        self._drained: datetime | None = None
        self._noted = False
        self._stopping = threading.Event()
        self._wake = threading.Event()

    # What the process says.

    def ready(self) -> None:
        """It does its work from now on: the time since its start is kept, and reported at once."""
        from ops.processes.facts import started_at

        if self._ready_after is None:
            self._ready_after = max(0.0, time.time() - started_at())
            self._wake.set()

    def end(self, reason: str, seconds: float = END_SECONDS) -> None:
        """Write that the process ends, and why; waits at most ``seconds`` for the database."""
        if not self._stopping.is_set():
            self.end_reason = self.end_reason or reason
            self._stopping.set()
            self._wake.set()
        if self.is_alive() and threading.current_thread() is not self:
            self.join(seconds)
        from ops.logbook import pump

        pump.stop()

    # The thread.

    def run(self) -> None:
        from django.db import connections

        reported = float("-inf")
        try:
            while not self._stopping.is_set():
                woken = self._wake.is_set()
                self._wake.clear()
                try:
                    if woken or time.monotonic() - reported >= self.interval:
                        self.report()
                        reported = time.monotonic()
                        self._note_release()
                        self._look_at_the_disk()
                        self._watch()
                    self._listen()
                except Exception as error:
                    # The database is away, or has no tables yet: others see that nothing comes, and we try again.
                    log.debug("process_not_reported", error=str(error), error_type=type(error).__name__)
                    connections.close_all()
                self._wake.wait(min(LISTEN_SECONDS, self.interval))
            self._write_end()
        except Exception:
            log.warning("process_reporter_ended", exc_info=True)
        finally:
            connections.close_all()

    def report(self) -> None:
        """Write the row once."""
        from django.utils import timezone

        from ops.leases import WORKER
        from ops.models import Process
        from ops.processes import facts
        from ops.processes.usage import Meter

        if self._meter is None:
            self._meter = Meter(self._cgroup)
        found = self._meter.measure()
        if self.role == "web" and self._ready_after is None and found.ports:
            # A web server does its work once it listens; its program does not tell us.
            self.ready()
        self._sample(found.rss_bytes, found.cpu_seconds)
        fields: dict[str, Any] = {
            **found.fields(),
            "samples": self._samples,
            "ready_after_seconds": self._ready_after,
            "seen_at": timezone.now(),
        }
        if self._facts and Process.objects.filter(pk=WORKER).update(**fields):
            return
        self._facts = self._facts or facts.collect()
        self._began = self._began or facts.started_at()
        Process.objects.update_or_create(
            name=WORKER,
            defaults={
                **self._facts,
                **fields,
                "role": self.role,
                "started_at": datetime.fromtimestamp(self._began, UTC),
                "ended_at": None,
                "end_reason": "",
                "drain_requested_at": None,
                "drain_requested_by": "",
                "reach": {},
            },
        )

    def _look_at_the_disk(self) -> None:
        """Pages of this process say when it is nearly full, without asking the database for it."""
        from ops import disk_guard

        disk_guard.look_around()

    def _note_release(self) -> None:
        """Once, after the first report: which release this start is of."""
        if self._noted:
            return
        self._noted = True
        from ops.services.releases import note_release

        try:
            note_release()
        except Exception:
            log.warning("release_not_noted", exc_info=True)

    def _sample(self, rss: int, cpu: float) -> None:
        now = time.time()
        if not self._samples or now - self._samples[-1][0] >= SAMPLE_SECONDS:
            self._samples = [*self._samples, [round(now), rss, round(cpu, 1)]][-KEPT_SAMPLES:]

    def _listen(self) -> None:
        from ops.leases import WORKER
        from ops.models import Process
        from ops.processes.services import parse_requester

        row = Process.objects.filter(pk=WORKER).values_list("drain_requested_at", "drain_requested_by").first()
        if row is None or row[0] is None or self._drained is not None:
            return
        self._drained = row[0]
        by, evict = parse_requester(row[1])
        self.end_reason = f"Asked to end by {by}."
        # Said before it is done: whoever asked sees that it was heard.
        Process.objects.filter(pk=WORKER).update(end_reason=self.end_reason[:500])
        log.info("process_draining", role=self.role, by=by, evict=evict)
        self._on_drain(DrainRequest(by, evict))

    def _watch(self) -> None:
        from ops.processes import watch

        if self.role in watch.ROLES:
            watch.look()

    def _write_end(self) -> None:
        from django.utils import timezone

        from ops.leases import WORKER
        from ops.models import Process

        now = timezone.now()
        Process.objects.filter(pk=WORKER).update(seen_at=now, ended_at=now, end_reason=self.end_reason[:500])


_current: Reporter | None = None
_lock = threading.Lock()


def start(role: str, *, on_drain: Callable[[DrainRequest], None] = end_this_process) -> Reporter | None:
    """Report this process from now on. The first role counts: the worker inside of ``up`` is part of ``up``.

    Returns the reporter, None where processes are not reported.
    """
    import atexit

    from ops.logbook import pump

    global _current
    if not enabled:
        return None
    with _lock:
        if _current is None:
            _current = Reporter(role, on_drain=on_drain)
            _current.start()
            # The same processes keep their recent log lines as rows.
            pump.start(role)
            threading.Thread(target=_reach, name="process reach", daemon=True).start()
            atexit.register(_at_exit, _current)
        return _current


def _reach() -> None:
    """How this process reaches every server, about once a minute. A process may report itself before its apps are ready."""
    time.sleep(LISTEN_SECONDS)
    from ops.leases import WORKER
    from ops.network.reach import keep_reporting

    keep_reporting(WORKER)


def current() -> Reporter | None:
    """The reporter of this process, if it has one."""
    return _current


def _at_exit(reporter: Reporter) -> None:
    error = getattr(sys, "last_value", None)
    reporter.end(f"Error: {type(error).__name__}: {error}" if error is not None else "Ended as asked.")
