"""Ways to cause failures of files and endpoints: probes that cannot fail, starts without time, files that name the dead."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from ops.adapters.local import spawn
from ops.doctor.faults import FaultRefused, refuse_outside_demo, register_fault
from ops.doctor_services import deploy_files, health_probes
from ops.doctor_services.waiting import until
from ops.live import live, live_clear, live_row, live_set
from ops.models import Process
from ops.processes.facts import boot_id

_ACTOR = "demo"

_VACUOUS = """services:
  worker:
    image: switchboard
    command: ["celery", "-A", "controlplane", "worker"]
    healthcheck:
      test: ["CMD", "python", "-c", "import sys; sys.exit(0)"]
"""
_HASTY = """services:
  worker:
    image: switchboard
    command: ["celery", "-A", "controlplane", "worker"]
    healthcheck:
      test: ["CMD", "python", "manage.py", "healthcheck", "--service", "worker"]
      interval: 2s
      retries: 2
      start_period: 5s
"""
# Says 503 until it has been asked so often, then that it is well: a server that is only starting.
_STARTING = """
import http.server, sys
asked = 0
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global asked
        asked += 1
        self.send_response(503 if asked <= int(sys.argv[2]) else 200)
        self.end_headers()
    def log_message(self, *args):
        pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
open(sys.argv[1], "w").write(str(server.server_port))
server.serve_forever()
"""
_ASKED_BEFORE = 6


def _kept(key: str) -> dict[str, Any]:
    row = live_row(key)
    return {"key": key, "had": row is not None, "before": row.value if row is not None else None}


def _put_back(memory: dict[str, Any]) -> None:
    if memory["had"]:
        live_set(key=memory["key"], value=memory["before"], actor=_ACTOR)
    else:
        live_clear(key=memory["key"], actor=_ACTOR)


def _compose(text: str) -> dict[str, Any]:
    refuse_outside_demo()
    path = Path(settings.DATA_DIR) / "demo-compose.yaml"
    path.write_text(text, encoding="utf-8")
    memory = _kept(deploy_files.KEY) | {"path": str(path)}
    live_set(key=deploy_files.KEY, value=str(path), actor=_ACTOR)
    return memory


def _compose_gone(memory: dict[str, Any]) -> None:
    _put_back(memory)
    Path(memory["path"]).unlink(missing_ok=True)
    if memory.get("process"):
        Process.objects.filter(pk=memory["process"]).delete()


def _hasty() -> dict[str, Any]:
    """A start that took 48 seconds, and a compose file that gives nine."""
    memory = _compose(_HASTY)
    now = timezone.now()
    row = Process.objects.create(
        name=f"demo:{os.getpid()}:{now:%H%M%S%f}",
        role="worker",
        host="demo",
        pid=os.getpid(),
        boot_id=f"demo {boot_id()}"[:64],
        ready_after_seconds=48.0,
        started_at=now,
        seen_at=now,
        ended_at=now,
        end_reason="Ended as asked.",
    )
    return memory | {"process": row.pk}


def _starting() -> dict[str, Any]:
    refuse_outside_demo()
    folder = Path(settings.DATA_DIR)
    place = folder / "demo-endpoint.port"
    place.unlink(missing_ok=True)
    pid = spawn(
        [sys.executable, "-c", _STARTING, str(place), str(_ASKED_BEFORE)], log=folder / "logs" / "demo-endpoint.log"
    )
    memory = _kept(health_probes.KEY) | {"pid": pid, "place": str(place)}
    if not until(lambda: place.exists() and place.read_text(encoding="ascii").isdigit(), 15.0):
        _stopped(memory)
        raise FaultRefused("The endpoint that was to be ill did not start.")
    line = f"demo-endpoint http://127.0.0.1:{place.read_text(encoding='ascii')}/health ms=4000"
    live_set(key=health_probes.KEY, value=[*live(health_probes.KEY), line], actor=_ACTOR)
    return memory


def _stopped(memory: dict[str, Any]) -> None:
    _put_back(memory)
    with contextlib.suppress(ProcessLookupError):
        os.kill(memory["pid"], signal.SIGKILL)
    Path(memory["place"]).unlink(missing_ok=True)


def _dead_file() -> dict[str, Any]:
    refuse_outside_demo()
    # A process that has certainly ended.
    done = subprocess.Popen([sys.executable, "-I", "-S", "-c", ""])
    done.wait(20)
    path = Path(settings.DATA_DIR) / "demo.pid"
    path.write_text(f"{done.pid}\n", encoding="ascii")
    return {"path": str(path)}


register_fault(
    "svc.vacuous_probe",
    title="The probe of a compose file is exit(0)",
    cause=lambda: _compose(_VACUOUS),
    heal=_compose_gone,
    evidence=("cannot_fail",),
)
register_fault(
    "svc.unhealthy_start",
    title="A compose file gives a worker less time than it needs to start",
    cause=_hasty,
    heal=_compose_gone,
    evidence=("starts", "services"),
)
register_fault(
    "svc.health_endpoints",
    title="A health endpoint answers 503, because its server is only starting",
    cause=_starting,
    heal=_stopped,
    target=lambda memory: "demo-endpoint",
    evidence=("url", "expected", "status"),
)
register_fault(
    "svc.stale_pid",
    title="A file names a process that has ended",
    cause=_dead_file,
    heal=lambda memory: Path(memory["path"]).unlink(missing_ok=True),
    evidence=("files",),
)
