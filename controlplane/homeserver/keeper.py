"""Keeps the local homeserver running: starts it, waits until it answers, starts it again when it dies, stops it with us."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from controlplane.homeserver import configure, paths, restored
from controlplane.homeserver import process as processes
from controlplane.homeserver.errors import HomeserverError
from controlplane.homeserver.paths import LocalHomeserver
from ops.logs import get_logger

log = get_logger(__name__)

READY_SECONDS = 180.0
# It has run well for so long: the next death is a new story.
_WELL_SECONDS = 120.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0


class Keeper(threading.Thread):
    """The thread that owns the Synapse process. ``say(lamp, sentence)`` hears what happens after the start.

    All starts happen in this thread, since the kernel ends a child together with the *thread* that started it.
    """

    def __init__(self, local: LocalHomeserver, python: Path, say: Callable[[str, str], None]) -> None:
        super().__init__(name="local-homeserver", daemon=True)
        self.local = local
        self._python = python
        self._say = say
        self._stopping = threading.Event()
        self._settled = threading.Event()
        self._failure: HomeserverError | None = None
        self.restarts = 0
        # Its port is another than the one it had when it was handed over.
        self.moved = False
        self.process: subprocess.Popen[bytes] | None = None

    def wait_ready(self, seconds: float = 3 * READY_SECONDS) -> None:
        """Wait until it answers for the first time. Raises ``HomeserverError`` with the end of its log when it does not."""
        if not self._settled.wait(seconds):
            self._failure = HomeserverError(f"The local homeserver did not answer within {seconds:g} seconds.")
        if self._failure is not None:
            raise self._failure

    def stop(self, seconds: float = processes.STOP_SECONDS) -> None:
        """End the homeserver and this thread."""
        self._stopping.set()
        if self.is_alive():
            self.join(seconds + 6)

    def run(self) -> None:
        try:
            self._first_start()
            if self._failure is None:
                self._settled.set()
                self._watch()
        except Exception as error:
            log.exception("homeserver.keeper_failed")
            self._failure = HomeserverError(f"The local homeserver cannot be kept running: {error}")
        finally:
            if self.process is not None:
                processes.stop(self.process, self.local)
            self._settled.set()

    def _first_start(self) -> None:
        self.local.output.unlink(missing_ok=True)
        problem = self._start()
        while problem and self._may_move():
            self.local = configure.choose_again(self.local)
            self.moved = True
            configure.write(self.local)
            problem = self._start()
        if problem:
            self._failure = HomeserverError(problem, processes.log_tail(self.local))
        elif not self._stopping.is_set():
            self.local = configure.settle(self.local)

    def _start(self) -> str:
        """Start the process. "" when it answers (or we are to stop), else a sentence. One that a restore brought takes the place of ours."""
        if aside := restored.take_its_place(self.local.folder):
            self._say(
                "attention", f"The local homeserver of a backup was put back; what was there lies in synapse/{aside}."
            )
            self.local = paths.known_local() or self.local
            configure.write(self.local)
        self.process = processes.spawn(self._python, self.local)
        problem = self._wait_for_answer()
        if problem:
            # One that hangs would keep its port from the next.
            processes.stop(self.process, self.local)
        return problem

    def _may_move(self) -> bool:
        """Whether somebody else has the port of a homeserver that nobody knows yet: another installation, started at the same
        moment, saw it free as well and was quicker."""
        return not self.local.settled and not configure.port_is_free(self.local.port)

    def _wait_for_answer(self) -> str:
        """ "" when it answers, else a sentence."""
        assert self.process is not None
        until = time.monotonic() + READY_SECONDS
        while not self._stopping.is_set():
            code = self.process.poll()
            if code is not None or time.monotonic() > until:
                return self._why_not(code)
            # Whatever answers at the port may be somebody else's.
            if processes.listens(self.process, self.local) and _answers(self.local):
                return ""
            self._stopping.wait(0.1)
        return ""

    def _why_not(self, code: int | None) -> str:
        """Why it does not answer; ``code`` is what its process ended with, if it did."""
        assert self.process is not None
        ours = code is None and processes.listens(self.process, self.local)
        if not ours and not configure.port_is_free(self.local.port):
            return configure.port_taken(self.local).sentence
        if code is not None:
            return f"The local homeserver ended with code {code} instead of starting."
        return f"The local homeserver did not answer within {READY_SECONDS:g} seconds."

    def _watch(self) -> None:
        pause = _FIRST_PAUSE
        assert self.process is not None
        while not self._stopping.is_set():
            started = time.monotonic()
            code = self._wait_for_end()
            if self._stopping.is_set():
                return
            if time.monotonic() - started > _WELL_SECONDS:
                pause = _FIRST_PAUSE
            self._say("trouble", f"The local homeserver ended (code {code}). Starting it again in {pause:g} s.")
            if self._stopping.wait(pause):
                return
            pause = min(pause * 2, _LONGEST_PAUSE)
            self.restarts += 1
            problem = self._start()
            if self._stopping.is_set():
                return
            if problem:
                self._say("trouble", f"{problem} {processes.log_tail(self.local, 5)}")
            else:
                self._say("good", "The local homeserver is back.")

    def _wait_for_end(self) -> int:
        assert self.process is not None
        while True:
            code = self.process.poll()
            if code is not None or self._stopping.wait(0.25):
                return code if code is not None else 0


def _answers(local: LocalHomeserver) -> bool:
    try:
        return httpx.get(f"{local.url}/health", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
