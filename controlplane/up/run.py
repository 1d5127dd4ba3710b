"""The order in which everything starts and stops.

Main thread: preparations, then the web server's loop. A second thread waits for the homeserver, starts the worker, syncs and
prints the table. The homeserver has a thread of its own (``Keeper``). Whatever ends the process, nothing but files stays:
the lock is the kernel's, the homeserver dies with us, and leases that name this process are found by the next.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from django.conf import settings
from django.db import connections

from controlplane.homeserver.errors import HomeserverError
from controlplane.homeserver.keeper import Keeper
from controlplane.provision import provision
from controlplane.up import prepare, report
from controlplane.up.errors import CannotStart
from controlplane.up.lock import DataDirLock
from controlplane.up.terminal import Terminal
from ops.choices import Lamp
from ops.logs import get_logger
from ops.processes import reporter
from ops.processes.facts import RESTARTED_AT
from ops.processes.preflight import failed_start, good_start
from ops.processes.services import let_go_of_everything
from ops.words import counted

log = get_logger(__name__)

# What runs when we are asked to stop may finish for so long.
GRACE_SECONDS = 3.0
_DRAIN_PAUSE = 1.5


class Stopped(BaseException):
    """A signal came while we were still preparing."""


class Up:
    """One run of ``manage.py up``. ``run`` returns the exit code."""

    def __init__(self, *, with_homeserver: bool = True, with_sync: bool = True) -> None:
        self.terminal = Terminal()
        self.with_homeserver = with_homeserver and not settings.MATRIX_HOMESERVER_URL
        self.with_sync = with_sync
        self.keeper: Keeper | None = None
        self.worker: Any = None
        self.server: Any = None
        self.failure: CannotStart | None = None
        self._lock = DataDirLock(settings.DATA_DIR)
        self._stopping = threading.Event()
        self._boot: threading.Thread | None = None
        self._started = _process_start()
        self._reporter: reporter.Reporter | None = None
        self._again = False

    def run(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        try:
            self._prepare()
            self._serve()
        except CannotStart as error:
            self.failure = error
        except HomeserverError as error:
            self.failure = CannotStart(error.sentence, error.tail, cause="homeserver")
        except Stopped:
            pass
        finally:
            self._stopping.set()
            self._stop_parts()
        if self.failure is not None:
            if self.failure.cause != "running":
                failed_start(self.failure.sentence, role="up", cause=self.failure.cause, code=self.failure.exit_code)
            self.terminal.say(Lamp.TROUBLE, self.failure.sentence)
            if self.failure.detail:
                self.terminal.plain(self.failure.detail)
        return self._end(self.failure.exit_code if self.failure is not None else 0)

    # Starting.

    def _prepare(self) -> None:
        say = self.terminal.say
        self.terminal.plain(f"Switchboard {settings.VERSION}, data in {settings.DATA_DIR}")
        self._lock.take(settings.PUBLIC_URL)
        prepare.check_settings(self.terminal)
        prepare.check_folder()
        prepare.check_port()
        if self.with_homeserver:
            self._start_homeserver()
        applied = prepare.migrate(self.terminal)
        if applied:
            say(Lamp.GOOD, f"Database: {counted(applied, 'migration')} applied.")
        self._reporter = reporter.start("up", on_drain=self._on_drain)
        self._provision()

    def _provision(self) -> None:
        say = self.terminal.say
        done = provision(homeserver="auto" if self.with_homeserver or settings.MATRIX_HOMESERVER_URL else "off")
        for sentence in done.notes:
            say(Lamp.ATTENTION, sentence)
        for sentence in done.problems:
            say(Lamp.TROUBLE, sentence)
        if done.changed:
            say(Lamp.GOOD, f"Services from the settings: {', '.join(done.changed)}.")
        self._distrust_the_past()

    def _distrust_the_past(self) -> None:
        """Nobody listened until now: rooms are walked before anything newer of them is taken in, from the first event on."""
        from agents.services.backends import homeserver_service, mode_of
        from chat.matrix.gaps import raise_epoch

        service = homeserver_service()
        # In client mode the sync goes on where it was.
        if service is not None and mode_of(service) == "appservice":
            raise_epoch(service, "Switchboard starts")

    def _start_homeserver(self) -> None:
        from controlplane.homeserver.install import is_installed
        from controlplane.homeserver.local import start_local

        say = self.terminal.say
        if is_installed():
            self.keeper = start_local(say)
            return
        with self.terminal.working("Installing the local homeserver (Synapse, once, about 240 MB)") as progress:
            started = time.monotonic()
            self.keeper = start_local(say, progress)
        say(Lamp.GOOD, f"Local homeserver installed in {time.monotonic() - started:.0f} s.")

    def _serve(self) -> None:
        from chat import live
        from controlplane.asgi import application
        from controlplane.up.web import WebServer

        self.server = WebServer(application, on_listening=self._on_listening)
        live.use_loop(self.server.loop)
        if self._stopping.is_set():
            raise Stopped
        # Requests run in threads of their own; this thread's connection was for the preparations.
        connections.close_all()
        self.server.run()
        if self.server.failure and self.failure is None:
            raise CannotStart(
                f"The web server cannot listen on {settings.HOST}:{settings.PORT}: {self.server.failure}", cause="port"
            )

    def _on_listening(self) -> None:
        if self._boot is None:
            self._boot = threading.Thread(target=self._finish_start, name="start", daemon=True)
            self._boot.start()

    def _finish_start(self) -> None:
        try:
            self._start_rest()
        except HomeserverError as error:
            self.failure = CannotStart(error.sentence, error.tail, cause="homeserver")
        except CannotStart as error:
            self.failure = error
        except Exception as error:
            if not self._stopping.is_set():
                log.exception("start.failed")
                self.failure = CannotStart(f"The start failed: {type(error).__name__}: {error}")
        finally:
            connections.close_all()
            if self.failure is not None and self.server is not None:
                self.server.finish()

    def _start_rest(self) -> None:
        import controlplane.celery as celery_module
        from controlplane.up.worker import EmbeddedWorker

        if self.keeper is not None:
            self.keeper.wait_ready()
            if self.keeper.moved:
                self._provision()
        if self._stopping.is_set():
            return
        celery_module.provision_at_start = False
        worker = EmbeddedWorker(concurrency=settings.WORKER_CONCURRENCY)
        self.worker = worker
        worker.start()
        if self._reporter is not None:
            self._reporter.ready()
        good_start(role="up")
        ready = time.monotonic() - self._started
        if not self._stopping.is_set():
            report.after_restore(self.terminal)
        if self.with_sync and not self._stopping.is_set():
            report.first_sync(self.terminal, should_stop=self._stopping.is_set)
        if not self._stopping.is_set():
            report.overview(self.terminal, self, seconds=ready)

    # Stopping.

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._stopping.is_set():
            self._end_now()
        self._stopping.set()
        if self.server is None:
            raise Stopped
        self.server.finish()

    def _on_drain(self, request: reporter.DrainRequest) -> None:
        """An operator asked for a restart, or to make room for another Switchboard. Called in the reporter's thread."""
        self._again = not request.evict
        what = "Restarting" if self._again else "Ending"
        self.terminal.say(Lamp.ATTENTION, f"{what}, as {request.by} asked.")
        # Whoever asked from a page of ours gets the answer first.
        if not self._stopping.wait(_DRAIN_PAUSE):
            os.kill(os.getpid(), signal.SIGTERM)

    def _stop_parts(self) -> None:
        if self.failure is None:
            self.terminal.plain()
            self.terminal.say(Lamp.WORKING, "Stopping. Answers that are under way get a moment.")
        # It loses its homeserver now, which is no news.
        import logging

        logging.getLogger("chat.matrix.watch").setLevel(logging.CRITICAL)
        if self._boot is not None:
            self._boot.join(1.0)
        left = self.worker.stop(GRACE_SECONDS) if self.worker is not None else 0
        if self.keeper is not None:
            self.keeper.stop()
        if left:
            what = counted(left, "task was", "tasks were")
            self.terminal.say(Lamp.ATTENTION, f"{what} still running; the next start goes on from there.")

    def _end(self, code: int) -> int:
        again = self._again and self.failure is None
        if self.failure is None and not again:
            self.terminal.say(Lamp.OFF, "Stopped. Start again with: make up")
        self._lock.release()
        if self._reporter is not None:
            self._reporter.end(f"Error: {self.failure.sentence}" if self.failure is not None else "Ended as asked.")
        if again:
            self._restart()
        if threading.active_count() > 1:
            # A thread that waits on a backend would hold the process for as long as that answer takes.
            connections.close_all()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        return code

    def _restart(self) -> None:
        """Begin anew in the same process: terminal, process id and arguments stay, memory and threads go."""
        try:
            # To others the process stays alive: what its threads held would be waited for.
            let_go_of_everything()
        except Exception:
            log.warning("leases_not_let_go", exc_info=True)
        connections.close_all()
        sys.stdout.flush()
        sys.stderr.flush()
        os.environ[RESTARTED_AT] = str(time.time())
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606

    def _end_now(self) -> None:
        """Asked twice: no more waiting."""
        process = self.keeper.process if self.keeper is not None else None
        if process is not None and process.poll() is None:
            process.terminate()
        os._exit(130)


def _process_start() -> float:
    """When this process began, on the monotonic clock: imports count as well. Now, where it cannot be found out."""
    if RESTARTED_AT in os.environ:
        return time.monotonic() - max(0.0, time.time() - float(os.environ[RESTARTED_AT]))
    try:
        with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        # Field 22 counts from boot, as the boot-time clock does.
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        age = 0.0
    return time.monotonic() - max(0.0, age)
