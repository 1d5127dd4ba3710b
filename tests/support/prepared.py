"""Databases with all tables, copied by whoever needs one. Of SQLite it is made once for the whole machine, of PostgreSQL once a server.

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
from typing import TYPE_CHECKING

from tests.peers.base import PROJECT_ROOT
from tests.peers.kept import kept

if TYPE_CHECKING:
    from tests.peers.postgres import Postgres

APPS = ("ops", "agents", "chat", "controlplane")
# Packages that bring tables of their own.
PACKAGES = ("django", "django-allauth")
_TEMPLATE, _HALF = "switchboard_tables", "switchboard_tables_half"


def copy_database(to: Path) -> Path:
    """Put a migrated database there; returns its path. The folder is made when it is missing."""
    to.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    shutil.copyfile(_template(), to)
    to.chmod(0o600)
    return to


def database_with_tables(postgres: Postgres, name: str) -> str:
    """Make a migrated database on this server (an existing one is kept); returns its ``DATABASE_URL`` for Django."""
    return postgres.create_database(name, template=template_of(postgres))


def template_of(postgres: Postgres) -> str:
    """Name of the server's own migrated database, made when it is missing; to be copied, never used."""
    if not postgres.has_database(_TEMPLATE):
        postgres.drop_database(_HALF)
        _migrate(DATABASE_URL=postgres.create_database(_HALF))
        postgres.rename_database(_HALF, _TEMPLATE)
    return _TEMPLATE


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
    with tempfile.TemporaryDirectory(prefix="sb-migrate-") as data:
        made = Path(data) / "switchboard.sqlite3"
        _migrate(DATABASE_URL=f"sqlite:///{made}")
        # Whoever closed it last has put everything into the one file.
        assert not made.with_name(f"{made.name}-wal").exists()
        shutil.copyfile(made, path)


def _migrate(**settings: str) -> None:
    from tests.up.running import clean_environment

    with tempfile.TemporaryDirectory(prefix="sb-migrate-") as data:
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "-v0"],
            cwd=PROJECT_ROOT, check=True,
            env=clean_environment(DATA_DIR=data, SWITCHBOARD_ENV_FILE=f"{data}/none", **settings),
        )  # fmt: skip
