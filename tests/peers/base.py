"""What all peers share: one child process, its folder and log, and its death with ours."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

import psutil

from .ports import free_port

__all__ = ["PROJECT_ROOT", "Peer", "PeerError", "PeerUnavailable", "ended", "free_port", "runs"]

PROJECT_ROOT = Path(__file__).resolve().parents[2]

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class PeerError(RuntimeError):
    """A peer did not start, or did not do what a test asked of it. The message names it and ends with its log."""


class PeerUnavailable(RuntimeError):
    """A peer cannot be installed on this machine. The message says why and what to do."""


def _die_with_parent(number: int) -> None:
    """Runs in the child between fork and exec; ``_libc`` is loaded before, so nothing is imported here."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


class _Spawner:
    """Starts children from one thread that lives as long as the process.

    The kernel sends the parent-death signal when the *thread* that forked ends, so a child started from a test's own
    short-lived thread would die with that thread.
    """

    def __init__(self) -> None:
        self._orders: queue.Queue[tuple[Callable[[], Any], Future[Any]]] = queue.Queue()
        threading.Thread(target=self._work, name="peers-spawner", daemon=True).start()

    def _work(self) -> None:
        while True:
            call, result = self._orders.get()
            try:
                result.set_result(call())
            except BaseException as error:
                result.set_exception(error)

    def run(self, call: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        result: Future[subprocess.Popen[bytes]] = Future()
        self._orders.put((call, result))
        return result.result(timeout=240)


@functools.cache
def _spawner() -> _Spawner:
    return _Spawner()


def runs(pid: int) -> bool:
    """Whether there is such a process; one that has ended and waits for its parent does not run."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ended(pid: int, seconds: float = 90.0) -> bool:
    """Wait until a process has ended, which takes a moment after the last that it says. False when it runs on."""
    until = time.monotonic() + seconds
    while runs(pid):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


_alive: set[Peer] = set()


@atexit.register
def _stop_all() -> None:
    for peer in list(_alive):
        with contextlib.suppress(Exception):
            peer.stop()


class Peer:
    """One server process on 127.0.0.1.

    The port and the folder stay the same through ``kill9`` and ``restart``; ``stop`` removes the folder when it is a
    temporary one, unless ``SWITCHBOARD_KEEP_PEERS`` is set. Usable as a context manager.
    """

    name = "peer"
    ready_seconds = 180.0
    stop_signal = signal.SIGTERM
    stop_seconds = 10.0
    death_signal = signal.SIGKILL
    user: str | None = None

    def __init__(self, folder: Path | None = None) -> None:
        self._temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix=f"sb-{self.name}-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log_path = self.folder / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._prepared = False

    # What a kind of peer says about itself.

    def prepare(self) -> None:
        """Once, before the first start: install, write the configuration."""

    def command(self) -> Sequence[str]:
        raise PeerError(f"{self.name}: this peer names no command")

    def environment(self) -> Mapping[str, str]:
        """Variables on top of this process's own."""
        return {}

    def is_ready(self) -> bool:
        """Whether it answers. Any exception counts as no."""
        return True

    def after_start(self) -> None:
        """After every start, once it answers."""

    # What every peer can do.

    def start(self) -> Self:
        if self.is_running:
            return self
        if not self._prepared:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.prepare()
            self._prepared = True
        environment = {**os.environ, **self.environment()}
        command = list(self.command())
        with self.log_path.open("ab") as log:
            self.process = _spawner().run(
                lambda: subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    cwd=self.working_folder,
                    user=self.user,
                    start_new_session=True,
                    preexec_fn=functools.partial(_die_with_parent, int(self.death_signal)),
                )
            )
        _alive.add(self)
        try:
            self._wait_until_ready()
            self.after_start()
        except BaseException:
            self.kill9()
            raise
        return self

    @property
    def working_folder(self) -> Path:
        return self.folder

    def _wait_until_ready(self) -> None:
        limit = time.monotonic() + self.ready_seconds
        pause, last = 0.01, ""
        while time.monotonic() < limit:
            if not self.is_running:
                code = self.process.returncode if self.process else None
                raise PeerError(f"{self.name} ended with code {code} instead of starting.\n{self.log_tail()}")
            try:
                if self.is_ready():
                    return
            except Exception as error:
                last = f" ({type(error).__name__}: {error})"
            time.sleep(pause)
            pause = min(pause * 1.5, 0.2)
        raise PeerError(f"{self.name} did not answer within {self.ready_seconds:g} s{last}.\n{self.log_tail()}")

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        if self.process is None:
            raise PeerError(f"{self.name} was never started")
        return self.process.pid

    def terminate(self) -> None:
        """End the process politely, and by force after ``stop_seconds``. The folder stays."""
        if self.is_running and self.process is not None:
            # A paused process would never see the polite signal.
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(self.stop_seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(60)

    def stop(self) -> None:
        """End the process and remove the temporary folder. Does nothing the second time."""
        self.terminate()
        _alive.discard(self)
        if self._temporary and not os.environ.get("SWITCHBOARD_KEEP_PEERS"):
            shutil.rmtree(self.folder, ignore_errors=True)
            self._prepared = False

    def kill9(self) -> None:
        """What a power cut does to the process: SIGKILL. Configuration and data stay for ``start`` or ``restart``."""
        if self.is_running and self.process is not None:
            self.process.kill()
            self.process.wait(60)

    def restart(self) -> Self:
        """The same server at the same address again, whether it runs or was killed."""
        self.terminate()
        return self.start()

    @contextlib.contextmanager
    def frozen(self) -> Any:
        """The process stands still: connections are accepted by the kernel and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield self
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGCONT)

    def pause(self, seconds: float) -> None:
        """Stand still for that long, from now, without blocking the caller."""
        os.kill(self.pid, signal.SIGSTOP)
        timer = threading.Timer(seconds, self._resume, args=(self.pid,))
        timer.daemon = True
        timer.start()

    @staticmethod
    def _resume(pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def log_tail(self, lines: int = 40) -> str:
        """The end of its log, for an error message."""
        if not self.log_path.exists():
            return f"It left no log ({self.log_path})."
        tail = self.log_path.read_text(errors="replace").splitlines()[-lines:]
        return f"The end of {self.log_path}:\n" + "\n".join(tail)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
