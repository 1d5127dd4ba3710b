"""Fetches the peers that are not packages of ours into a cache folder, once per version.

``SWITCHBOARD_PEERS_DIR`` names the folder (``var/peers`` under the project root when not set). Each peer has an environment
of its own, since their pins contradict ours.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .base import PROJECT_ROOT, PeerUnavailable

CHROMIUM = Path("/usr/bin/chromium")
_STAMP = ".installed"


@dataclass(frozen=True)
class Recipe:
    """One Python environment: what ``uv pip install`` is given. A change of any part installs anew."""

    name: str
    version: str
    arguments: tuple[str, ...]

    @property
    def stamp(self) -> str:
        return "\n".join((f"python {sys.version_info.major}.{sys.version_info.minor}", *self.arguments)) + "\n"


SYNAPSE = Recipe("synapse", "1.163.2", ("matrix-synapse==1.163.2",))
# Newer releases of its dependencies break this version at import, hence the date.
LETTA = Recipe(
    "letta",
    "0.16.8",
    (
        "--exclude-newer",
        "2026-05-20",
        "letta[server,redis]==0.16.8",
        "asyncpg",
        "pg8000",
        "pgvector",
        "psycopg2-binary",
    ),
)
RECIPES = {recipe.name: recipe for recipe in (SYNAPSE, LETTA)}


def peers_folder() -> Path:
    """Where installed peers live."""
    return Path(os.environ.get("SWITCHBOARD_PEERS_DIR") or PROJECT_ROOT / "var" / "peers").resolve()


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    """Two test runs at once install one after the other."""
    folder = peers_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".lock-{name}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(command: list[str], what: str, *, seconds: float = 900) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerUnavailable(f"{what} cannot be installed: {error}") from error
    if done.returncode:
        words = (done.stderr or done.stdout).strip()[-1500:]
        raise PeerUnavailable(
            f"{what} cannot be installed ({' '.join(command[:6])} ... ended with {done.returncode}): {words}"
        )


def ensure_environment(recipe: Recipe) -> Path:
    """The folder of the peer's environment, installed when it is missing or was made from another recipe.

    Raises ``PeerUnavailable`` when the package index cannot be reached or a package does not install here.
    """
    folder = peers_folder() / f"{recipe.name}-{recipe.version}"
    stamp = folder / _STAMP
    if stamp.exists() and stamp.read_text() == recipe.stamp:
        return folder
    with _locked(recipe.name):
        if stamp.exists() and stamp.read_text() == recipe.stamp:
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        what = f"{recipe.name} {recipe.version}"
        uv = [sys.executable, "-m", "uv"]
        _run([*uv, "venv", "--quiet", "--python", sys.executable, str(folder)], what)
        python = str(folder / "bin" / "python")
        _run([*uv, "pip", "install", "--quiet", "--python", python, *recipe.arguments], what)
        stamp.write_text(recipe.stamp)
    return folder


@functools.cache
def ensure_synapse() -> Path:
    """The Synapse environment's folder."""
    return ensure_environment(SYNAPSE)


@functools.cache
def ensure_letta() -> Path:
    """The Letta environment's folder."""
    return ensure_environment(LETTA)


def ensure_chromium() -> Path:
    """The Chromium executable. Debian's package is installed when we are root; Playwright's own download is not used."""
    if CHROMIUM.exists():
        return CHROMIUM
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise PeerUnavailable(
            f"{CHROMIUM} is missing. Install it once with: sudo apt-get install chromium fonts-liberation"
        )
    wait = ["-o", "DPkg::Lock::Timeout=300"]
    with _locked("chromium"):
        if not CHROMIUM.exists():
            _run(["apt-get", "update", "-q", *wait], "Chromium")
            quiet = [
                "env",
                "DEBIAN_FRONTEND=noninteractive",
                "apt-get",
                "install",
                "-y",
                "-q",
                "--no-install-recommends",
            ]
            _run([*quiet, *wait, "chromium", "fonts-liberation"], "Chromium")
    if not CHROMIUM.exists():
        raise PeerUnavailable(
            f"The chromium package installed, but {CHROMIUM} is still missing. Install Chromium by hand."
        )
    return CHROMIUM


INSTALLERS: dict[str, Callable[[], Path]] = {
    "synapse": ensure_synapse,
    "letta": ensure_letta,
    "chromium": ensure_chromium,
}
