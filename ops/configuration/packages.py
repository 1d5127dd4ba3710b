"""Python environments: what shares one, and whether the packages in it fit together."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

# Programs that need an environment of their own, by the package they are installed as.
FOREIGN = {
    "letta": "Letta",
    "livekit-agents": "LiveKit Agents",
    "matrix-synapse": "Synapse",
    "litellm": "LiteLLM",
    "vllm": "vLLM",
}
PIP_SECONDS = 100.0


def foreign_here(prefix: str = sys.prefix) -> list[tuple[str, str]]:
    """(name, version) of other programs that are installed in the environment at ``prefix``."""
    found = []
    for known in metadata.distributions(path=site_folders(prefix)):
        name = re.sub(r"[-_.]+", "-", str(known.metadata["Name"] or "")).lower()
        if name in FOREIGN:
            found.append((FOREIGN[name], known.version))
    return sorted(set(found))


def conflicts(prefix: str) -> list[str] | None:
    """What ``pip check`` says of the environment at ``prefix``; None when it cannot be asked (no pip, not on this machine)."""
    python = Path(prefix) / "bin" / "python"
    if not python.exists():
        return None
    # Our own pip looks into the other environment, which need not have one.
    where = [] if Path(prefix).resolve() == Path(sys.prefix).resolve() else ["--python", str(python)]
    command = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", *where, "check"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if done.returncode == 0:
        return []
    # Anything else than its answer is a failure to answer.
    return [
        line for line in lines if " requires " in line or " has requirement " in line or "not supported" in line
    ] or None


def site_folders(prefix: str) -> list[str]:
    """The folders with the packages of the environment at ``prefix``."""
    return [str(folder) for folder in sorted(Path(prefix).glob("lib/python3*/site-packages"))]
