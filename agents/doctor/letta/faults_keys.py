"""A provider that insists on a key, and a service that has none, or a wrong one."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from agents.doctor.letta.faults import ACTOR, free_port
from ops.doctor.faults import FaultRefused, register_fault
from ops.models import Service
from ops.services.services import service_delete, service_save

# Started by its file: as a module it would need all of Django.
_PROGRAM = Path(__file__).with_name("gatekeeper.py")


def _begin(name: str, key: str) -> dict[str, Any]:
    """Start the little provider and a service that uses it with ``key``; its agents are none, so that no rooms are made."""
    port, good = free_port(), f"sk-demo-{secrets.token_hex(12)}"
    command = [sys.executable, "-I", str(_PROGRAM), str(port), good]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    if not _listens(port):
        process.kill()
        raise FaultRefused("The little provider did not start.")
    service_save(
        actor=ACTOR,
        name=name,
        kind="openai",
        base_url=f"http://127.0.0.1:{port}/v1",
        credentials={"api_key": key} if key else {},
        options={"models": ["nobody-*"]},
    )
    # The key opens nothing but the little provider.
    return {"service": name, "pid": process.pid, "port": port, "good": good}


def _listens(port: int) -> bool:
    until = time.monotonic() + 15
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        time.sleep(0.05)
    return False


def _end(memory: dict[str, Any]) -> None:
    service = Service.objects.filter(name=memory["service"]).first()
    if service is not None:
        service_delete(service=service, actor=ACTOR)
    if _is_ours(memory["pid"]):
        with contextlib.suppress(OSError):
            os.kill(memory["pid"], signal.SIGTERM)
        with contextlib.suppress(OSError):
            os.waitpid(memory["pid"], 0)


def _is_ours(pid: int) -> bool:
    """Whether the process number still is the little provider's: numbers are given away again."""
    try:
        return str(_PROGRAM).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _no_key() -> dict[str, Any]:
    return _begin("doctor-keyless", "")


def _wrong_key() -> dict[str, Any]:
    return _begin("doctor-wrong-key", "sk-revoked-0123456789abcdef0123")


def _repair_params(memory: dict[str, Any]) -> dict[str, Any]:
    return {"field": "credentials.api_key", "secret": memory["good"]}


for _id, _title, _cause, _evidence in (
    ("llm.key_missing", "A provider that insists on a key, and a service without one", _no_key, ("host", "variable")),
    (
        "llm.key_invalid",
        "A provider that insists on a key, and a service with a revoked one",
        _wrong_key,
        ("shown_as", "answer"),
    ),
):
    register_fault(
        _id,
        title=_title,
        cause=_cause,
        heal=_end,
        target=lambda memory: str(memory["service"]),
        repair="config.edit",
        repair_target=lambda memory: f"service:{memory['service']}",
        repair_params=_repair_params,
        evidence=_evidence,
    )
