"""Faults of settings: lines in the settings file, packages that do not fit, a port that is taken."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ops.configuration import envfile
from ops.configuration.packages import site_folders
from ops.configuration.schema import configuration
from ops.doctor.faults import FaultRefused, register_fault
from ops.doctor.repairs import Plan, RepairWork, get_repair
from ops.network import ports
from ops.processes.facts import settings_seen
from ops.processes.queries import alive

_PACKAGE = "switchboard_fault-1.0.dist-info"
_LISTEN = (
    "import socket, sys, time; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); "
    "s.bind((sys.argv[1], int(sys.argv[2]))); s.listen(5); print('listening', flush=True); time.sleep(86400)"
)


def _add_line(names: tuple[str, ...], value: str) -> dict[str, Any]:
    """Set the first of these that the environment does not set itself. The file's old text goes into the memory."""
    reading = configuration().read()
    name = next((one for one in names if reading.places.get(one) != "environment"), "")
    if not name:
        raise FaultRefused(
            f"The environment sets {', '.join(names)}, so a line in the settings file would change nothing."
        )
    path = configuration().env_file()
    try:
        before = envfile.read(path)
        envfile.write(path, name, value)
    except OSError as error:
        raise FaultRefused(f"{path} cannot be written: {error.strerror}.") from error
    return {"file": str(path), "before": before, "name": name}


def _put_back(memory: dict[str, Any]) -> None:
    envfile.replace(Path(memory["file"]), memory["before"])


register_fault(
    "config.env_invalid",
    title="A line of the settings file holds a word where a number belongs",
    cause=lambda: _add_line(("TURN_ATTEMPTS", "MAX_HOPS"), "many"),
    heal=_put_back,
    evidence=("wrong", "file"),
)

register_fault(
    "config.placeholder_db_uri",
    title="A secret is still the word of the example",
    cause=lambda: _add_line(("METRICS_TOKEN", "NEW_AGENT_WEBHOOK_TOKEN"), "changeme"),
    heal=_put_back,
    evidence=("wrong",),
)


def _change_unloaded() -> dict[str, Any]:
    number = int(configuration().read().values["HISTORY_MESSAGES"]) + 7
    return {**_add_line(("HISTORY_MESSAGES",), str(number)), "value": number}


def _unload(memory: dict[str, Any]) -> None:
    """Put the file back, and restart whoever has loaded the change meanwhile: a line that is gone is noticed by nobody."""
    _put_back(memory)
    name = memory["name"]
    changed = settings_seen({**configuration().read().values, name: memory["value"]})[name]
    restart = get_repair("service.restart")
    roles = {row.role for row in alive() if (row.settings_seen or {}).get(name) == changed}
    for role in sorted(roles):
        if restart is None:
            return
        planned = restart.plan(_restart_work(role))
        restart.apply(_restart_work(role, planned))


def _restart_work(role: str, plan: Plan | None = None) -> RepairWork:
    return RepairWork(target=f"role:{role}", params={"force": True}, actor="demo", plan=plan)


register_fault(
    "config.env_not_loaded",
    title="The settings file was changed and nothing was restarted",
    cause=_change_unloaded,
    heal=_unload,
    evidence=("changed_on_disk", "processes"),
)


def _plant_package() -> dict[str, Any]:
    folder = next((Path(one) for one in site_folders(sys.prefix) if os.access(one, os.W_OK)), None)
    if folder is None:
        raise FaultRefused(f"Nothing can be installed into {sys.prefix} by this user.")
    package = folder / _PACKAGE
    package.mkdir(exist_ok=True)
    (package / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: switchboard-fault\nVersion: 1.0\nRequires-Dist: django<2\n", encoding="utf-8"
    )
    return {"folder": str(package)}


def _remove_package(memory: dict[str, Any]) -> None:
    folder = Path(memory["folder"])
    if folder.name == _PACKAGE:
        shutil.rmtree(folder, ignore_errors=True)


register_fault(
    "config.mixed_venv",
    title="A package that wants another Django is in the environment",
    cause=_plant_package,
    heal=_remove_package,
    evidence=("conflicts", "prefixes"),
)


def start_program(code: str, *arguments: str) -> int:
    """Start a small Python program that outlives us, and wait for its first line. Returns its process id."""
    return start_and_read(code, *arguments)[0]


def start_and_read(code: str, *arguments: str) -> tuple[int, str]:
    """As ``start_program``, with the line as well."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code, *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise FaultRefused("The program that was to break something did not start.")
    return process.pid, line.decode().strip()


def end_program(pid: int) -> None:
    """End what ``start_program`` started; fine when it is gone."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
    for _ in range(100):
        with suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                return
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.02)


def _take_port() -> dict[str, Any]:
    """Another program takes a port of ours. While we have it, the next start's port is set to one that is taken."""
    for use in sorted(ports.port_uses(), key=lambda one: one.name):
        address = use.address()
        if address is None or use.can_write(address[1]):
            continue
        host, port = address
        memory: dict[str, Any] = {"port": use.name, "host": host}
        if not ports.is_free(host, port):
            port = ports.next_free(host, port)
            memory |= {"pid": start_program(_LISTEN, host, str(port)), "written": use.write(port)}
        else:
            memory["pid"] = start_program(_LISTEN, host, str(port))
        return memory
    raise FaultRefused("No port of ours could be written back by a repair: the environment sets them.")


def _give_port_back(memory: dict[str, Any]) -> None:
    end_program(int(memory["pid"]))
    use = ports.port_use(memory["port"])
    if use is None or "written" not in memory:
        return
    address = use.address()
    written = memory["written"]
    if "file" in written:
        envfile.replace(Path(written["file"]), written["before"])
    elif address is not None and address[1] != written["before"]:
        use.write(int(written["before"]))


register_fault(
    "net.port_conflict",
    title="Another program has taken a port of ours",
    cause=_take_port,
    heal=_give_port_back,
    target=lambda memory: str(memory["port"]),
    evidence=("port", "process", "next_free"),
)
