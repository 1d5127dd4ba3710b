"""What these tests share: rows of processes as they would be left behind."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from ops.models import Process
from ops.processes.facts import boot_id

_numbers = itertools.count(1)


@pytest.fixture
def make_process(db: Any) -> Callable[..., Process]:
    """``make_process(role, ago=…, up=…)``: a process that was last seen ``ago`` seconds ago, ``up`` seconds after its start.

    Where it runs cannot be looked at, unless ``here`` says that it is this one.
    """

    def make(
        role: str = "worker", *, ago: float = 0.0, up: float = 600.0, here: bool = False, **fields: Any
    ) -> Process:
        from ops.leases import WORKER

        now = timezone.now()
        seen = now - timedelta(seconds=ago)
        host = fields.pop("host", socket.gethostname() if here else "elsewhere")
        name = WORKER if here else f"{host}:{next(_numbers)}:1"
        return Process.objects.create(
            **{
                "name": name,
                "role": role,
                "host": host,
                "pid": os.getpid() if here else 1,
                "boot_id": boot_id() if here else "another boot",
                "started_at": seen - timedelta(seconds=up),
                "seen_at": seen,
                "ready_after_seconds": 1.0,
                **fields,
            }
        )

    return make


@pytest.fixture
def dead_pid() -> int:
    """The id of a process that has certainly ended."""
    done = subprocess.Popen([sys.executable, "-I", "-S", "-c", ""])
    done.wait(60)
    return done.pid
