"""Installs Synapse from the package index into an environment of its own.

An interrupted installation has no stamp and is made anew; so is one whose stamp names other requirements.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

from django.conf import settings

from controlplane.homeserver.errors import HomeserverError
from controlplane.homeserver.paths import folder, read_text
from ops.words import counted

Progress = Callable[[str], None]
_STAMP = ".installed"


def requirements_file() -> Path:
    """The pin, part of the source tree."""
    return Path(settings.BASE_DIR) / "deploy" / "synapse-requirements.txt"


def environment_folder() -> Path:
    """Where Synapse is (or will be) installed."""
    ready = settings.ENVIRONMENT["SWITCHBOARD_SYNAPSE_VENV"]
    return Path(ready).resolve() if ready else folder() / "venv"


def python_of(environment: Path) -> Path:
    return environment / "bin" / "python"


def is_installed() -> bool:
    """Whether the environment is there, complete and made from the present requirements."""
    environment = environment_folder()
    if settings.ENVIRONMENT["SWITCHBOARD_SYNAPSE_VENV"]:
        return python_of(environment).exists()
    return python_of(environment).exists() and read_text(environment / _STAMP) == _stamp()


def ensure_installed(progress: Progress = lambda text: None) -> Path:
    """Install Synapse unless it is there; returns the environment's Python.

    ``progress`` hears what is being done. Raises ``HomeserverError`` when the package index cannot be reached or a package
    does not install; what was made so far is removed by the next try.
    """
    environment = environment_folder()
    if is_installed():
        return python_of(environment)
    if settings.ENVIRONMENT["SWITCHBOARD_SYNAPSE_VENV"]:
        raise HomeserverError(
            f"SWITCHBOARD_SYNAPSE_VENV names {environment}, where there is no bin/python. "
            "Give the folder of a Python environment with Synapse, or remove the line to have one installed."
        )
    shutil.rmtree(environment, ignore_errors=True)
    environment.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    uv = [sys.executable, "-m", "uv"] if importlib.util.find_spec("uv") else None
    progress("making its environment")
    if uv:
        _run([*uv, "venv", "--quiet", "--python", sys.executable, str(environment)], progress)
        installer = [*uv, "pip", "install", "--python", str(python_of(environment))]
    else:
        _run([sys.executable, "-m", "venv", str(environment)], progress)
        installer = [
            str(python_of(environment)), "-m", "pip", "install",
            "--disable-pip-version-check", "--no-input", "--progress-bar", "off",
        ]  # fmt: skip
    _run([*installer, "-r", str(requirements_file())], progress)
    (environment / _STAMP).write_text(_stamp(), encoding="utf-8")
    return python_of(environment)


def _stamp() -> str:
    return f"python {sys.version_info.major}.{sys.version_info.minor}\n{read_text(requirements_file())}"


def _run(command: list[str], progress: Progress) -> None:
    """Run an installer and pass on what it is at; its last words go into the error when it fails."""
    last: deque[str] = deque(maxlen=15)
    try:
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        ) as process:
            try:
                _follow(process, last, progress)
            except BaseException:
                # We were asked to stop: the installer must not go on by itself.
                process.kill()
                raise
    except OSError as error:
        raise HomeserverError(f"The installer cannot be started: {error}") from error
    if process.returncode:
        raise HomeserverError(
            "Synapse could not be installed. Is the package index (pypi.org or your mirror) reachable from here? "
            "Start again to retry, or use your own homeserver: set MATRIX_HOMESERVER_URL, or start with --no-homeserver.",
            "\n".join(last),
        )


def _follow(process: subprocess.Popen[str], last: deque[str], progress: Progress) -> None:
    assert process.stdout is not None
    seen = 0
    for line in process.stdout:
        last.append(line.rstrip())
        found = re.match(r"\s*Collecting (\S+)", line)
        if found:
            seen += 1
            progress(f"package {seen}: {found.group(1)[:40]}")
        elif line.startswith("Installing collected"):
            progress(f"unpacking {counted(seen, 'package')}")
