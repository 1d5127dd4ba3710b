"""Run as a process of its own: restores or makes a backup, and kills itself with SIGKILL at a named point.

``python -m tests.faults.restore_inside POINT COMMAND ARGUMENTS…``; POINT ``-`` kills at no point.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

import django
from django.core.management import call_command

# Where it dies: module and name of a function, and at the how manyth call.
POINTS = {
    "comparing": ("ops.backup.diff", "carry", 2),  # the first comparison is the plan's
    "safety": ("ops.services.restores", "put_files", 1),
    "between removing and inserting": ("ops.backup.apply", "insert_rows", 3),
    "before the commit": ("ops.backup.apply", "fence_in", 1),
    "after the commit": ("ops.services.restores", "put_files", 2),
    "reconciling": ("ops.services.reconciling", "_step", 1),
    "loading": ("ops.backup.load", "insert_rows", 12),
    "loaded": ("ops.services.restore_fresh", "fence_in", 1),
    "writing": ("ops.backup.archive", "head", 8),
    "written": ("ops.services.backups", "manifest_facts", 1),
}


def die_at(point: str) -> None:
    """Have the process end by itself as if somebody had pulled the plug."""
    if point == "-":
        return
    name, function, at = POINTS[point]
    module = __import__(name, fromlist=[function])
    original: Callable[..., Any] = getattr(module, function)
    calls = 0

    def dying(*arguments: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **more)

    setattr(module, function, dying)


def fill_disk(limit: int) -> None:
    """As if the disk became full while the backup is looked at: files cannot grow beyond ``limit`` then. The database lies on another one."""
    from ops.backup.staging import Staging

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    original = Staging.take

    def take(self: Staging, *arguments: Any) -> int:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            return original(self, *arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

    Staging.take = take  # type: ignore[method-assign]


def main() -> None:
    point, command, *arguments = sys.argv[1:]
    django.setup()
    from ops.backup import hooks
    from ops.processes import reporter

    reporter.enabled = False
    # Fences change rows, and there is nothing outside: here rows are to be compared.
    hooks._fences.clear()
    hooks._reconciles.clear()
    hooks.register_reconcile("Nothing", lambda work: None)
    if command == "fill":
        from tests.support.every_model import fill

        fill(each=int(arguments[0]))
        return
    if limit := os.environ.get("LARGEST_FILE"):
        fill_disk(int(limit))
    die_at(point)
    call_command(command, *arguments)


if __name__ == "__main__":
    main()
