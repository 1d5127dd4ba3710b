"""Ports that no two tests can take from each other, whichever processes and runs they belong to.

Each process holds blocks of ports by file locks, which the kernel frees when the process ends, and hands out ports of its own
blocks only. All of them lie below the ports from which the kernel takes those of outgoing connections.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

FIRST, LAST = 10_000, 29_999
BLOCK = 100
# What takes "the next free port" behind one of ours gets one that is handed out to nobody.
STRIDE = 4
# After so many blocks the first ones are used again: whoever had those ports is long gone, or is seen to listen.
MOST_BLOCKS = 8


class Ports:
    """The ports of one process, taken from ``folder``, which all processes share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._held: list[int] = []
        self._next = self._ports()

    def take(self) -> int:
        """A port on 127.0.0.1 on which nobody listens, and which no other process is given while this one lives."""
        with self._lock:
            if os.getpid() != self._process:
                # A fork would hand out the same ports as its parent.
                self._process, self._held, self._next = os.getpid(), [], self._ports()
            for port in itertools.islice(self._next, MOST_BLOCKS * BLOCK):
                if _is_free(port):
                    return port
        raise RuntimeError(f"All ports that this process may use are taken: blocks {self._held} of {self.folder}")

    def _ports(self) -> Iterator[int]:
        for _ in range(MOST_BLOCKS):
            yield from self._of_block(self._take_block())
        while True:
            for block in self._held:
                yield from self._of_block(block)

    @staticmethod
    def _of_block(block: int) -> range:
        return range(FIRST + block * BLOCK, FIRST + (block + 1) * BLOCK, STRIDE)

    def _take_block(self) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        for block in range((LAST + 1 - FIRST) // BLOCK):
            if block in self._held:
                continue
            handle = os.open(self.folder / f"{FIRST + block * BLOCK}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(handle)
                continue
            # The handle stays open, and with it the lock held, until this process ends.
            self._held.append(block)
            return block
        if not self._held:
            raise RuntimeError(f"No block of ports is left: other processes hold all of {self.folder}")
        return self._held[0]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: connections that were closed a moment ago do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_ports = Ports(Path(tempfile.gettempdir()) / f"switchboard-test-ports-{os.getuid()}")


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on now, and that no other test is given."""
    return _ports.take()
