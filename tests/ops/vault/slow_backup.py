"""``python -m tests.ops.vault.slow_backup``: makes a backup of which one file never ends, so that somebody can kill it."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import django

SIZE = 64 * 1024 * 1024


class Endless(io.RawIOBase):
    """Random bytes for a while, then it says so and waits."""

    left = SIZE // 2

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.left <= 0:
            print("waiting", flush=True)
            time.sleep(600)
        data = os.urandom(min(len(buffer), 1 << 20))
        buffer[: len(data)] = data
        self.left -= len(data)
        return len(data)


class Slow:
    """A component that was invented for this."""

    name, label, kind, optional = "slow", "A slow file", "settings", False

    def unavailable(self) -> str:
        return ""

    def files(self, cut: Any) -> Iterator[Any]:
        from ops.backup.components import FilePart

        yield FilePart("endless", SIZE, lambda: io.BufferedReader(Endless()))

    def put(self, files: Iterable[tuple[str, int, BinaryIO]], putting: Any) -> dict[str, int]:
        return {}


if __name__ == "__main__":
    django.setup()
    from ops.backup.components import register_component
    from ops.services.backups import backup_now

    register_component(Slow())
    backup_now(actor="command")
