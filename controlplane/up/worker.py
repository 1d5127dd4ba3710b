"""A Celery worker (threads) and beat inside this process, over the in-memory broker."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

from celery import signals
from celery.app.trace import setup_worker_optimizations
from celery.beat import EmbeddedService
from celery.bootsteps import RUN
from celery.worker import WorkController
from celery.worker import state as worker_state

from controlplane.celery import app
from ops.logs import get_logger

log = get_logger(__name__)


class _Controller(WorkController):
    """Says when it is ready, as the worker program does: others hang their threads on that signal."""

    ready = threading.Event()

    def on_consumer_ready(self, consumer: Any) -> None:
        signals.worker_ready.send(sender=consumer)
        self.ready.set()


class EmbeddedWorker:
    """Started once in a process's life."""

    def __init__(self, *, concurrency: int) -> None:
        self.concurrency = concurrency
        self._controller: _Controller | None = None
        self._thread: threading.Thread | None = None
        self._beat: Any = None

    def start(self, seconds: float = 15.0) -> None:
        """Returns when the worker takes tasks. Raises ``RuntimeError`` when it does not come up."""
        app.finalize()
        app.set_current()
        app.set_default()
        # Without this, tasks are received and never run.
        setup_worker_optimizations(app, "switchboard")
        worker_state.should_stop = None
        _Controller.ready.clear()
        self._controller = _Controller(
            app=app,
            hostname="switchboard@embedded",
            pool_cls="threads",
            concurrency=self.concurrency,
            without_mingle=True,
            without_gossip=True,
            without_heartbeat=True,
        )
        self._thread = threading.Thread(target=self._controller.start, name="worker", daemon=True)
        self._thread.start()
        if not _Controller.ready.wait(seconds):
            raise RuntimeError(f"The worker did not get ready within {seconds:g} seconds; see the log above.")
        # Unlike the beat program, the embedded one does not ask the configuration which scheduler to use, and its own
        # choice leaves files in the working directory.
        self._beat = EmbeddedService(app, thread=True, scheduler_cls=app.conf.beat_scheduler)
        self._beat.start()

    @property
    def is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def stop(self, seconds: float = 3.0) -> int:
        """Take no more tasks and give those that run a moment. Returns how many still ran when it was over.

        What still runs holds a lease that names this process; the next start sees that it is gone and goes on.
        """
        if self._thread is None:
            return 0
        until = time.monotonic() + seconds
        signals.worker_shutting_down.send(sender="switchboard@embedded", sig="SIGTERM", how="warm", exitcode=0)
        if self._beat is not None:
            self._beat.service.stop(wait=False)
        worker_state.should_stop = 0
        # Its loop sees the flag after a message, or every two seconds, and takes one more turn before it obeys: two harmless
        # messages save the wait.
        with contextlib.suppress(Exception):
            for _ in range(2):
                app.send_task("ops.heartbeat", expires=seconds)
        # Its thread takes two seconds more for a timer that nobody needs now: what counts is that no task is taken or runs.
        while (self._takes_tasks or worker_state.active_requests) and time.monotonic() < until:
            time.sleep(0.02)
        return len(worker_state.active_requests)

    @property
    def _takes_tasks(self) -> bool:
        return self.is_running and self._controller is not None and self._controller.blueprint.state == RUN
