"""The memory limit of the control group that a process lives in (a container, a systemd unit), and how often it was hit.

Kernel documentation, "Control Group v2" (``memory.max``, ``memory.events``) and "Memory Resource Controller" of version 1
(``memory.limit_in_bytes``, ``memory.oom_control``).
"""

from __future__ import annotations

from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
# Version 1 says "no limit" with a number near 2**63.
_NO_LIMIT = 2**60


class Cgroup:
    """One control group. ``folders`` go from the process's own group up to the root that can be seen."""

    def __init__(self, folders: list[Path]) -> None:
        self.folders = folders

    def limit_bytes(self) -> int | None:
        """The least limit on the way up, None when there is none."""
        found = []
        for folder in self.folders:
            for name in ("memory.max", "memory.limit_in_bytes"):
                text = _read(folder / name).strip()
                if text.isdigit() and int(text) < _NO_LIMIT:
                    found.append(int(text))
        return min(found, default=None)

    def oom_kills(self) -> int:
        """How many processes of the group the kernel has killed because it was full, since the group exists."""
        for folder in self.folders[:1]:
            for name in ("memory.events", "memory.oom_control"):
                for line in _read(folder / name).splitlines():
                    key, _, value = line.partition(" ")
                    if key == "oom_kill" and value.strip().isdigit():
                        return int(value)
        return 0


def own_cgroup() -> Cgroup:
    """The group of this process. Outside of Linux it has no folders, and so no limit."""
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "" and (_ROOT / "cgroup.controllers").exists():
            return Cgroup(_upwards(_ROOT, path))
        if "memory" in controllers.split(","):
            return Cgroup(_upwards(_ROOT / "memory", path))
    return Cgroup([])


def _upwards(root: Path, path: str) -> list[Path]:
    """The folders from ``path`` up to the root. In a container the path may be the host's, of which only the root is seen."""
    folder = root / path.lstrip("/")
    if not folder.exists():
        return [root]
    folders = [folder]
    while folder != root and root in folder.parents:
        folder = folder.parent
        folders.append(folder)
    return folders


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
