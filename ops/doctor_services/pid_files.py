"""Files that name a process which is no more, and the repair that removes them."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings

from ops.doctor.repairs import Change, Plan, RepairWork, register_repair
from ops.registry import Affected, CheckOutcome, register_check
from ops.words import counted

# A process may be a moment older or younger than the file that it wrote.
_SLACK = 5.0
_LARGEST = 64


@dataclass(frozen=True, slots=True)
class PidFile:
    """A file with a process id in it. ``stale`` says why it means nothing any more, "" when it is right."""

    path: Path
    pid: int
    stale: str


def pid_files() -> list[PidFile]:
    """Every ``*.pid`` in the data directory (two levels), and where Switchboard lies."""
    data, base = Path(settings.DATA_DIR), Path(settings.BASE_DIR)
    paths = {*data.glob("*.pid"), *data.glob("*/*.pid"), *base.glob("*.pid")}
    return [found for path in sorted(paths) if (found := _read(path)) is not None]


def _read(path: Path) -> PidFile | None:
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return None
        words = path.read_text(encoding="ascii", errors="replace").split()
        written = path.stat().st_mtime
    except OSError:
        return None
    if not words or not words[0].isdigit() or int(words[0]) == 0:
        return None
    pid = int(words[0])
    return PidFile(path, pid, _stale(pid, written))


def _stale(pid: int, written: float) -> str:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return f"process {pid} has ended"
        if process.create_time() > written + _SLACK:
            return f"process {pid} is another one by now ({process.name()})"
    except psutil.NoSuchProcess:
        return f"there is no process {pid}"
    except psutil.Error:
        return ""
    return ""


@register_check(
    "svc.stale_pid",
    title="No file names a process that is gone",
    tags=("processes", "disk"),
    interval=300,
    severity="warning",
    repairs=("pidfile.clean",),
)
def stale_pid() -> CheckOutcome:
    """Red for a ``*.pid`` file whose process has ended, or whose number was given to another that began after it was written.

    Switchboard itself goes by rows and the kernel's locks, never by such a number; people and scripts may.
    """
    files = pid_files()
    stale = [one for one in files if one.stale]
    evidence = {"files": [{"path": str(one.path), "pid": one.pid, "stale": one.stale} for one in files[:50]]}
    if not stale:
        return CheckOutcome(
            "pass",
            f"{counted(len(files), 'file names a process, and it', 'files name processes, and each')} is right.",
            evidence,
        )
    affected = tuple(Affected(f"file:{one.path}", f"{one.stale[:1].upper()}{one.stale[1:]}.") for one in stale)
    sentence = (
        f"{stale[0].path} means nothing any more: {stale[0].stale}. Whoever goes by it meets a stranger. Remove it."
    )
    return CheckOutcome("fail", sentence, evidence, affected)


def _plan(work: RepairWork) -> Plan:
    wanted = work.target.removeprefix("file:")
    stale = [one for one in pid_files() if one.stale and (not wanted or str(one.path) == wanted)]
    if not stale:
        return Plan("Every file that names a process is right.")
    changes = tuple(Change(f"file:{one.path}", "file", f"{one.pid}: {one.stale}", None) for one in stale)
    kept = {
        str(one.path): {
            "text": base64.b64encode(one.path.read_bytes()).decode(),
            "mode": one.path.stat().st_mode & 0o777,
            "mtime": one.path.stat().st_mtime,
        }
        for one in stale
    }
    count = "One file is" if len(stale) == 1 else f"{len(stale)} files are"
    return Plan(f"{count} removed.", changes, {"paths": list(kept)}, {"files": kept})


def _apply(work: RepairWork) -> dict[str, Any]:
    removed = []
    now = {str(one.path): one for one in pid_files()}
    for path in work.plan.data["paths"]:
        # It may have been written anew since it was looked at.
        if path in now and now[path].stale:
            now[path].path.unlink(missing_ok=True)
            removed.append(path)
    return {"removed": removed}


def _undo(work: RepairWork) -> None:
    import os

    for path, kept in (work.snapshot.get("files") or {}).items():
        file = Path(path)
        if not file.exists():
            file.write_bytes(base64.b64decode(kept["text"]))
            file.chmod(kept["mode"])
            os.utime(file, (kept["mtime"], kept["mtime"]))


register_repair(
    "pidfile.clean",
    title="Remove files that name processes which are gone",
    repair_class="A",
    button="Remove",
    explain="Removes *.pid files in the data directory whose process has ended, or whose number belongs to another process now.",
    plan=_plan,
    apply=_apply,
    undo=_undo,
    target_kinds=("file",),
)
