"""``storage.volume_ephemeral``: what must outlive a restart lies where it does."""

from __future__ import annotations

import os
import shutil
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings

from agents.services.storage_marks import MARK, mark_read, mark_remembered, mark_write
from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.registry import CheckOutcome, register_check

# File systems that are gone with the container or the machine's memory.
FLEETING = frozenset({"overlay", "aufs", "tmpfs", "ramfs", "rootfs", "devicemapper"})


@dataclass(frozen=True, slots=True)
class Place:
    """One folder with data, and what is known of where it lies."""

    path: str
    device: int
    file_system: str
    mounted_at: str
    writable: bool
    free_bytes: int
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{path, device, file_system, mounted_at, writable, free_bytes, problem}``."""
        return {name: getattr(self, name) for name in self.__slots__}


def folders() -> list[Path]:
    """Folders whose loss would be felt: the data directory, and that of an SQLite database elsewhere."""
    found = [Path(settings.DATA_DIR)]
    database = settings.DATABASES["default"]
    if "sqlite" in str(database.get("ENGINE", "")) and str(database.get("NAME", "")).startswith("/"):
        found.append(Path(str(database["NAME"])).parent)
    return list(dict.fromkeys(path.resolve() for path in found))


def mount_of(path: Path, table: str | None = None) -> tuple[str, str]:
    """(mount point, file system) that a path lies on, from ``/proc/self/mountinfo`` (proc(5)); ("", "") where there is none."""
    if table is None:
        try:
            table = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return "", ""
    best: tuple[str, str] = ("", "")
    for line in table.splitlines():
        left, dash, right = line.partition(" - ")
        fields = left.split()
        if not dash or len(fields) < 5 or not right:
            continue
        point = fields[4].replace("\\040", " ")
        inside = path == Path(point) or Path(point) in path.parents
        # Of two mounts at one place the later one counts.
        if inside and len(point) >= len(best[0]):
            best = (point, right.split()[0])
    return best


def started_at() -> datetime:
    """When what runs here began: the container (its first process) inside of one, else this process."""
    inside = os.path.exists("/.dockerenv") or os.path.exists("/run/.containerenv")
    path = Path("/proc/1" if inside else "/proc/self")
    try:
        ticks = int((path / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19])
        boot = next(
            int(line.split()[1])
            for line in Path("/proc/stat").read_text(encoding="ascii").splitlines()
            if line.startswith("btime ")
        )
        return datetime.fromtimestamp(boot + ticks / os.sysconf("SC_CLK_TCK"), tz=UTC)
    except (OSError, ValueError, IndexError, StopIteration):
        return datetime.now(tz=UTC)


def examine(folder: Path) -> Place:
    """One folder. Writes a mark where there is none, so that the next start can tell."""
    point, kind = mount_of(folder)
    try:
        device, free = os.stat(folder).st_dev, shutil.disk_usage(folder).free
    except OSError as error:
        return Place(str(folder), 0, kind, point, False, 0, f"cannot be read: {error.strerror}")
    writable = os.access(folder, os.W_OK)

    def place(problem: str) -> Place:
        return Place(str(folder), device, kind, point, writable, free, problem)

    if not writable:
        return place("cannot be written")
    problem = _mark_problem(folder)
    if not problem and kind in FLEETING:
        problem = f"lies on {kind}, which is gone with the container"
    return place(problem)


def _mark_problem(folder: Path) -> str:
    mark = mark_read(folder)
    if mark is None:
        remembered = mark_remembered(folder)
        # A mark is in the folder before it is remembered: whoever looks in this order cannot miss one that is being written.
        mark = mark_read(folder)
    if mark is None:
        try:
            mark = mark_write(folder=folder, lost_before=_was_here(remembered), actor="system")
        except OSError as error:
            return f"cannot be written: {error.strerror}"
    if not mark.lost_before:
        return ""
    # It counts as kept once a mark was there before what runs now began.
    if datetime.fromisoformat(mark.written_at) < started_at():
        mark_write(folder=folder, lost_before=False, actor="system")
        return ""
    return "lost what was in it: its mark had vanished"


def _was_here(remembered: dict[str, Any] | None) -> bool:
    """Whether the remembered mark was in this very folder: machines may share a database, and have a folder of the same name."""
    return remembered is not None and (settings.EMBEDDED or remembered.get("host") == socket.gethostname())


@register_check(
    "storage.volume_ephemeral",
    title="What must outlive a restart lies on a volume",
    tags=["data", "config", "start"],
    interval=300,
    severity="critical",
    depends_on=["db.reachable"],
)
def volume_ephemeral() -> CheckOutcome:
    """Looks at the mount that each data folder lies on, and for the mark that an earlier start left in it."""
    places = [examine(folder) for folder in folders()]
    evidence = {"places": [place.to_dict() for place in places], "mark": MARK}
    bad = [place for place in places if place.problem]
    if bad:
        return CheckOutcome(
            "fail",
            f"{bad[0].path} {bad[0].problem}. Keys, mappings or messages are lost at the next restart. Put the folder on a volume.",
            evidence,
        )
    return CheckOutcome("pass", f"{', '.join(place.path for place in places)}: kept over restarts.", evidence)


@register_guide("storage.volume_ephemeral")
def guide(target: str, evidence: dict[str, Any]) -> Guide:
    """A volume for each folder, for Compose, Docker and systemd."""
    paths = [str(path) for path in folders()]
    names = ["switchboard-data" if index == 0 else f"switchboard-data-{index}" for index in range(len(paths))]
    mounts = "\n".join(f"      - {name}:{path}" for name, path in zip(names, paths, strict=True))
    volumes = "\n".join(f"  {name}:" for name in names)
    flags = " ".join(f"-v {name}:{path}" for name, path in zip(names, paths, strict=True))
    bad = [place for place in evidence.get("places", []) if place.get("problem")]
    why = "; ".join(f"{place['path']} {place['problem']}" for place in bad) or "These folders must outlive a restart."
    return Guide(
        "Keep the data on a volume",
        f"{why}. In it are the keys that unlock stored credentials, and the database unless that is elsewhere.",
        (
            GuideStep("Save what is there now, while it still runs.", f"cp -a {paths[0]} {paths[0]}.saved"),
            GuideStep(
                "With Compose: give the service a named volume at exactly this path.",
                f"services:\n  switchboard:\n    environment:\n      DATA_DIR: {paths[0]}\n    volumes:\n{mounts}\n"
                f"volumes:\n{volumes}\n",
                "yaml",
                "compose.yaml",
            ),
            GuideStep("With plain Docker: add these to docker run.", flags),
            GuideStep(
                "Without a container: DATA_DIR must not lie in /tmp, in /run or on another file system in memory.",
                f"findmnt -T {paths[0]}",
            ),
            GuideStep(
                "Start again, put the saved files into the volume, and check again after one more restart: the mark "
                f"({MARK}) has to be there still.",
                "python manage.py doctor storage.volume_ephemeral",
            ),
        ),
    )
