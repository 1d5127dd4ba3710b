"""A SQLite database with all tables, made once for the whole machine and copied by whoever needs one.

Applying all migrations takes seconds of processor time, for every worker of the tests and every installation that they make. A copy is
the very file that ``manage.py migrate`` left. Its name tells what it was made from, so a new migration makes a new one.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from tests.peers.base import PROJECT_ROOT
from tests.peers.kept import kept

APPS = ("ops", "agents", "chat", "controlplane")
# Packages that bring tables of their own.
PACKAGES = ("django", "django-allauth")


def copy_database(to: Path) -> Path:
    """Put a migrated database there; returns its path. The folder is made when it is missing."""
    to.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    shutil.copyfile(_template(), to)
    to.chmod(0o600)
    return to


def _template() -> Path:
    return kept(f"{what_it_is_made_from()}.sqlite3", _make)


def what_it_is_made_from() -> str:
    """Changes with every migration, and with whatever else decides which tables there are."""
    made_from = hashlib.sha256()
    for app in APPS:
        for migration in sorted((PROJECT_ROOT / app).glob("**/migrations/*.py")):
            made_from.update(f"{migration.relative_to(PROJECT_ROOT)}\n".encode() + migration.read_bytes())
    settings = (PROJECT_ROOT / "controlplane" / "settings.py").read_bytes()
    made_from.update(settings + "".join(version(package) for package in PACKAGES).encode())
    return made_from.hexdigest()[:20]


def _make(path: Path) -> None:
    from tests.up.running import clean_environment

    with tempfile.TemporaryDirectory(prefix="sb-migrate-") as data:
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "-v0"],
            cwd=PROJECT_ROOT, env=clean_environment(DATA_DIR=data, SWITCHBOARD_ENV_FILE=f"{data}/none"), check=True,
        )  # fmt: skip
        made = Path(data) / "switchboard.sqlite3"
        # Whoever closed it last has put everything into the one file.
        assert not made.with_name(f"{made.name}-wal").exists()
        shutil.copyfile(made, path)
