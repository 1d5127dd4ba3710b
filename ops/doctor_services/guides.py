"""What to type where, for this installation: commands, probes, start periods, memory limits."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from ops.adapters import adapter_for, role_part
from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.doctor_services.checks_deploy import start_times
from ops.doctor_services.deploy_files import deploy_files
from ops.doctor_services.graph import start_order
from ops.models.process import ProcessRole
from ops.processes.queries import ROLE_WORDS, expected_roles

_ROLES = ("web", "worker", "beat")


def _compose_file() -> str:
    return next((str(path) for path in deploy_files() if path.suffix in (".yml", ".yaml")), "your compose file")


@register_guide("svc.down", "svc.stack_start", "api.down", "svc.dependency_order")
def start_by_hand(target: str, evidence: dict[str, Any]) -> Guide:
    """The commands that start what is missing, in order."""
    missing = [role for role in evidence.get("missing") or expected_roles() if role in ProcessRole.values]
    steps = [
        GuideStep(
            f"Start the {ROLE_WORDS[role]}.",
            adapter_for(role_part(role)).command(role_part(role), "start"),
            "sh",
            "on its host",
        )
        for role in start_order()
        if role in missing
    ]
    steps.append(
        GuideStep(
            "Look whether all of it is ready.", f"{_python()} manage.py stack status", "sh", str(settings.BASE_DIR)
        )
    )
    if settings.PROCESS_MANAGER == "none":
        steps.append(
            GuideStep(
                "Say who starts the processes, and the button does it next time (systemd, docker or local).",
                "PROCESS_MANAGER=systemd",
                "ini",
                ".env",
            )
        )
    return Guide(
        "Start what is missing",
        "Each process needs the ones before it; a process that runs is left alone.",
        tuple(steps),
    )


@register_guide("svc.vacuous_probe")
def real_probe(target: str, evidence: dict[str, Any]) -> Guide:
    """A probe that can fail, for each service that has none."""
    found = [*(evidence.get("cannot_fail") or []), *(evidence.get("without") or [])]
    names = [(str(one.get("service")), str(one.get("file"))) for one in found] or [
        (role, _compose_file()) for role in _ROLES
    ]
    steps = []
    for name, file in names:
        role = next((role for role in _ROLES if role in name), "web")
        if file.endswith(".service"):
            snippet, language = f"ExecStartPost={_python()} manage.py healthcheck --service {role} --wait 60", "ini"
        else:
            snippet, language = _compose_probe(name, role), "yaml"
        steps.append(GuideStep(f"Give {name} a probe that asks it.", snippet, language, file))
    steps.append(
        GuideStep(
            "See that it can fail: stop the service and run the probe; it ends with 1.",
            f"{_python()} manage.py healthcheck --service web; echo $?",
        )
    )
    why = "A probe that cannot fail keeps an outage hidden: Docker and systemd restart only what says that it is ill."
    return Guide("A probe that can fail", why, tuple(steps))


def _compose_probe(name: str, role: str, start: int = 60) -> str:
    return (
        "services:\n"
        f"  {name}:\n"
        "    healthcheck:\n"
        f'      test: ["CMD", "python", "manage.py", "healthcheck", "--service", "{role}"]\n'
        "      interval: 15s\n"
        "      timeout: 6s\n"
        "      retries: 4\n"
        f"      start_period: {start}s\n"
    )


@register_guide("svc.unhealthy_start")
def more_time(target: str, evidence: dict[str, Any]) -> Guide:
    """``start_period`` of one and a half times what was measured."""
    measured = evidence.get("starts") or start_times()
    late = [
        one
        for one in evidence.get("services") or []
        if one.get("allowed") is not None and one["measured"] > one["allowed"]
    ]
    places = late or [{"service": role, "role": role, "file": _compose_file()} for role in _ROLES if role in measured]
    steps = []
    for one in places:
        seconds = math.ceil(1.5 * float(measured.get(one["role"], 20.0)))
        if str(one["file"]).endswith(".service"):
            snippet, language = f"[Service]\nTimeoutStartSec={seconds}", "ini"
        else:
            snippet, language = (
                f"services:\n  {one['service']}:\n    healthcheck:\n      start_period: {seconds}s\n",
                "yaml",
            )
        took = measured.get(one["role"])
        steps.append(
            GuideStep(
                f"{one['service']}: {took} s measured, so give it {seconds} s.", snippet, language, str(one["file"])
            )
        )
    if not steps:
        steps.append(
            GuideStep(
                "No start was measured yet. Restart a process; it reports how long it took.",
                f"{_python()} manage.py stack status",
            )
        )
    return Guide("Time to start", "A process that is still starting must not count as unhealthy.", tuple(steps))


@register_guide("res.oom")
def more_memory(target: str, evidence: dict[str, Any]) -> Guide:
    """A limit of 1.3 times the most that was seen."""
    groups = evidence.get("groups") or {}
    steps = []
    for host, known in sorted(groups.items()):
        if not known.get("kills") and not any(one.get("host") == host for one in evidence.get("died_full") or []):
            continue
        peak = max(int(known.get("peak_mb") or 0), int(known.get("limit_mb") or 0), 256)
        limit = math.ceil(peak * 1.3 / 64) * 64
        steps.append(
            GuideStep(
                f"{host} was seen at {known.get('peak_mb')} MB of {known.get('limit_mb') or 'no limit'}; allow {limit} MB (compose).",
                f"services:\n  worker:\n    mem_limit: {limit}m\n",
                "yaml",
                _compose_file(),
            )
        )
        steps.append(
            GuideStep(
                "Or, with systemd:",
                f"[Service]\nMemoryMax={limit}M\n",
                "ini",
                "sudo systemctl edit switchboard-worker@1",
            )
        )
    if not steps:
        steps.append(
            GuideStep(
                "Nothing was killed for want of memory lately; this shows what the processes use.",
                f"{_python()} manage.py stack status",
            )
        )
    steps.append(
        GuideStep(
            "Fewer answers at a time need less memory: each thread of a worker holds one.",
            f"WORKER_CONCURRENCY={max(4, settings.WORKER_CONCURRENCY // 2)}",
            "ini",
            ".env",
        )
    )
    why = "At its limit the kernel kills a process without a word; what it worked on is done again by the next one."
    return Guide("More memory, or less work at a time", why, tuple(steps))


def _python() -> str:
    path = Path(sys.executable)
    base = Path(settings.BASE_DIR)
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)


@register_guide("db.reachable")
def database_again(target: str, evidence: dict[str, Any]) -> Guide:
    """What to look at when the database does not do its work, by kind."""
    known = settings.DATABASES["default"]
    steps = []
    if evidence.get("unapplied"):
        steps.append(
            GuideStep("Bring the tables up to date.", f"{_python()} manage.py migrate", "sh", str(settings.BASE_DIR))
        )
    if "sqlite" in str(known["ENGINE"]):
        name = str(known["NAME"])
        steps.append(
            GuideStep(
                "Look whether the file is there, is ours, and has room.", f"ls -l {name}*; df -h {Path(name).parent}"
            )
        )
    else:
        place = f"{known.get('HOST') or 'localhost'}:{known.get('PORT') or 5432}"
        steps.append(
            GuideStep(
                f"Look whether PostgreSQL answers at {place}.",
                f"pg_isready -h {known.get('HOST') or 'localhost'} -p {known.get('PORT') or 5432}",
            )
        )
        steps.append(
            GuideStep(
                "If it does, correct the address, name or password.",
                "DATABASE_URL=postgres://USER:PASSWORD@HOST:5432/NAME",
                "ini",
                ".env",
            )
        )
    steps.append(GuideStep("Look again.", f"{_python()} manage.py doctor db.reachable"))
    return Guide(
        "The database",
        "Everything that Switchboard knows is in it; without it nothing works, and nothing is lost.",
        tuple(steps),
    )


@register_guide("broker.reachable")
def broker_again(target: str, evidence: dict[str, Any]) -> Guide:
    """What to look at when the broker does not carry messages."""
    if settings.EMBEDDED:
        return start_by_hand(target, {"missing": ["up"]})
    found = urlsplit(settings.CELERY_BROKER_URL)
    place = f"{found.hostname or 'localhost'}:{found.port or (6379 if found.scheme.startswith('redis') else 5672)}"
    host, _, port = place.rpartition(":")
    ask = f"redis-cli -h {host} -p {port} ping" if found.scheme.startswith("redis") else f"nc -vz {host} {port}"
    return Guide(
        "The broker",
        "It wakes the workers. Without it messages wait in the database and are answered when it is back; none is lost.",
        (
            GuideStep(f"Look whether it answers at {place}.", ask),
            GuideStep("If it does not, start it.", f"docker compose -f {_compose_file()} up -d redis"),
            GuideStep(
                "If it does, correct the address.", f"CELERY_BROKER_URL={found.scheme}://HOST:{port}/0", "ini", ".env"
            ),
            GuideStep("Look again.", f"{_python()} manage.py doctor broker.reachable"),
        ),
    )
