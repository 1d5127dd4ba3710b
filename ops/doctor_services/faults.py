"""Ways to cause failures of processes for real: processes that misbehave, and processes that are killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings

from ops.adapters.local import spawn
from ops.doctor.catalogue import register_proof
from ops.doctor.faults import FaultRefused, refuse_outside_demo, register_fault
from ops.doctor_services.waiting import until
from ops.models import Process
from ops.processes.facts import boot_id
from ops.processes.queries import alive, is_gone

_UP_SECONDS = 90.0


def idle(*arguments: str, when: Callable[[Process], bool] = lambda row: True, count: int = 1) -> dict[str, Any]:
    """Start processes that misbehave, and wait until their rows say so. Returns what ``end_idle`` needs."""
    refuse_outside_demo()
    log = Path(settings.DATA_DIR) / "logs" / "idle.log"
    pids = [spawn([sys.executable, "manage.py", "idle_process", *arguments], log=log) for _ in range(count)]

    def there() -> bool:
        rows = Process.objects.filter(pid__in=pids, boot_id=boot_id(), ended_at=None)
        return len([row for row in rows if when(row) and not is_gone(row)]) == count

    memory = {"pids": pids}
    if not until(there, _UP_SECONDS):
        end_idle(memory)
        raise FaultRefused(f"The process that was to misbehave did not get there; its log is {log}.")
    return memory | {
        "names": list(Process.objects.filter(pid__in=pids, boot_id=boot_id()).values_list("pk", flat=True))
    }


def end_idle(memory: dict[str, Any]) -> None:
    """End them, and forget that they were there."""
    names = memory.get("names") or list(
        Process.objects.filter(pid__in=memory["pids"], boot_id=boot_id()).values_list("pk", flat=True)
    )
    for row in Process.objects.filter(pk__in=names):
        if not is_gone(row):
            with contextlib.suppress(ProcessLookupError):
                os.kill(row.pid, signal.SIGKILL)
            until(lambda row=row: is_gone(row), 5.0)  # type: ignore[misc]
    Process.objects.filter(pk__in=names).delete()
    if memory.get("folder"):
        shutil.rmtree(memory["folder"], ignore_errors=True)


def _group(limit_mb: int, kills: int = 0) -> str:
    """A folder that reads like a control group."""
    folder = Path(tempfile.mkdtemp(prefix="switchboard-group-"))
    (folder / "memory.max").write_text(f"{limit_mb * 2**20}\n", encoding="ascii")
    (folder / "memory.events").write_text(f"low 0\nhigh 0\nmax 9\noom {kills}\noom_kill {kills}\n", encoding="ascii")
    return str(folder)


def _eats() -> dict[str, Any]:
    folder = _group(160)
    memory = idle("--eat-mb", "100", "--cgroup", folder, when=lambda row: row.rss_bytes > 130 * 2**20)
    return memory | {"folder": folder}


def _grows() -> dict[str, Any]:
    return idle("--grew-mb", "160", when=lambda row: len(row.samples) > 10)


def _was_killed() -> dict[str, Any]:
    folder = _group(256, kills=3)
    return idle("--cgroup", folder, when=lambda row: row.oom_kills == 3) | {"folder": folder}


def _burns() -> dict[str, Any]:
    return idle("--burn", when=lambda row: row.cpu_percent >= 90)


def _second() -> dict[str, Any]:
    return idle("--role", "beat", when=lambda row: row.ready_after_seconds is not None)


def _crashes() -> dict[str, Any]:
    memory = idle(count=3)
    for row in Process.objects.filter(pk__in=memory["names"]):
        os.kill(row.pid, signal.SIGKILL)
        until(lambda row=row: is_gone(row), 5.0)  # type: ignore[misc]
    return memory


def _hangs() -> dict[str, Any]:
    return idle("--never-ready", "--age", "600")


def _name(memory: dict[str, Any]) -> str:
    return f"process:{memory['names'][0]}"


def kill(role: str) -> dict[str, Any]:
    """Kill every process of a role that runs on this machine."""
    refuse_outside_demo()
    rows = [row for row in alive((role,)) if row.boot_id == boot_id()]
    if not rows:
        raise FaultRefused(f"No {role} runs on this machine as a process of its own.")
    for row in rows:
        os.kill(row.pid, signal.SIGKILL)
    return {"role": role, "names": [row.pk for row in rows]}


def _start_again(memory: dict[str, Any]) -> None:
    from ops.adapters import adapter_for, role_part

    part = role_part(memory["role"])
    if not alive((memory["role"],)) and not adapter_for(part).why_not(part):
        adapter_for(part).start(part)


register_fault(
    "svc.down",
    title="Every worker is killed",
    cause=lambda: kill("worker"),
    heal=_start_again,
    needs=("stack",),
    evidence=("missing", "commands"),
)
register_fault(
    "api.down",
    title="The web server is killed",
    cause=lambda: kill("web"),
    heal=_start_again,
    needs=("stack",),
    evidence=("missing",),
)
register_fault(
    "svc.crash_loop",
    title="A worker starts three times and dies each time",
    cause=_crashes,
    heal=end_idle,
)
register_fault(
    "svc.dependency_order",
    title="A worker hangs, because what it needs came after it",
    cause=_hangs,
    heal=end_idle,
    evidence=("order", "needs"),
)
register_fault(
    "db.multi_writer",
    title="A second beat is started",
    cause=_second,
    heal=end_idle,
    repair="instance.evict",
    repair_target=_name,
    evidence=("instances",),
)
register_fault("res.memory_high", title="A process eats memory", cause=_eats, heal=end_idle, evidence=("processes",))
register_fault(
    "res.memory_growth", title="A process grows for hours", cause=_grows, heal=end_idle, evidence=("processes",)
)
register_fault(
    "res.cpu_high",
    title="A process turns in a circle",
    cause=_burns,
    heal=end_idle,
    repair="service.recycle",
    evidence=("processes",),
    also=("svc.health_endpoints",),
    why_also="what is left of the processors may be too little for the others to answer in time",
)
register_fault(
    "res.oom",
    title="The kernel killed a process for want of memory",
    cause=_was_killed,
    heal=end_idle,
    evidence=("groups",),
)

_PROOF = "tests/ops/doctor/processes/test_stack.py::"
register_proof("svc.down", f"{_PROOF}test_a_killed_worker_is_missed_by_the_others_restarted_and_green")
register_proof(
    "api.down",
    f"{_PROOF}test_a_web_server_that_hangs_is_told_apart_and_restarted",
    f"{_PROOF}test_a_killed_web_server_is_started_again_and_answers",
)
register_proof("svc.stack_start", f"{_PROOF}test_what_was_forgotten_at_the_start_is_brought_up")
