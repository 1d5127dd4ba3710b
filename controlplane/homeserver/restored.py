"""A local homeserver that a restore brought: it lies beside the present one until that is stopped, and then takes its place.

``synapse/.restored`` holds its files; it counts when ``complete`` stands in it, which names the folder into which the present ones go. A
start that is cut off half way is gone on with by the next.
"""

from __future__ import annotations

import dataclasses
import fcntl
import shutil
from pathlib import Path

from controlplane.homeserver import paths
from controlplane.homeserver.paths import write_private
from ops.backup.placing import private_folder, stamp
from ops.logs import get_logger

log = get_logger(__name__)

STAGING, COMPLETE = ".restored", "complete"
DATABASE = "homeserver.db"
_BESIDE_DATABASE = ("-wal", "-shm", "-journal")


def staging(folder: Path) -> Path:
    """Where its files are put; whatever an earlier restore left unfinished there is gone."""
    place = folder / STAGING
    shutil.rmtree(place, ignore_errors=True)
    return private_folder(place)


def mark_complete(folder: Path) -> str:
    """From now on it waits to take the place. Returns the name of the folder into which the present one's files will go.

    The port stays the one that clients of this machine know.
    """
    place, known = folder / STAGING, paths.known_in(folder)
    brought = paths.known_in(place)
    if known is not None and brought is not None:
        paths.remember(dataclasses.replace(brought, port=known.port, settled=known.settled))
    aside = f"before-restore-{stamp()}"
    write_private(place / COMPLETE, aside + "\n")
    return aside


def take_its_place(folder: Path) -> str:
    """Put what waits into place, while no homeserver runs. Returns the folder with what was there; "" when nothing waits."""
    if not (folder / STAGING / COMPLETE).is_file():
        return ""
    with (folder / ".restored.lock").open("w") as lock:
        # Its keeper and whoever restores may both be at it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _take_its_place(folder, folder / STAGING)


def _take_its_place(folder: Path, place: Path) -> str:
    aside = paths.read_text(place / COMPLETE).strip()
    if not aside:
        return ""
    for item in sorted(place.iterdir()):
        if item.name == COMPLETE:
            continue
        _set_aside(folder / item.name, folder / aside)
        if item.name == DATABASE:
            for end in _BESIDE_DATABASE:
                _set_aside(folder / f"{DATABASE}{end}", folder / aside)
        item.rename(folder / item.name)
    shutil.rmtree(place)
    log.warning("homeserver.restored", before=aside)
    return aside


def _set_aside(path: Path, aside: Path) -> None:
    if path.exists():
        private_folder(aside)
        path.rename(aside / path.name)
