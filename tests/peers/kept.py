"""Files that take long to make and are always the same: made once for the whole machine, copied by whoever needs one."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """The kept file, made by ``make(path)`` when it is missing.

    Its name tells all that it was made from, so that a change makes a new one. Of several that want it at the same moment, one makes it.
    """
    folder = Path(tempfile.gettempdir()) / f"switchboard-test-databases-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / name
    if path.exists():
        return path
    # A lock of its own: what is made here may need another kept file.
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            half = path.with_name(f"{name}.half")
            make(half)
            half.replace(path)
    return path
