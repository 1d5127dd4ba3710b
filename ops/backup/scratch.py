"""Database connections beside the configured ones: to a scratch file, or to a database that an operator named."""

from __future__ import annotations

import errno
import fcntl
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import environ
from django.conf import settings
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.utils import load_backend

from ops.backup.errors import BackupError, NoRoom

_DEFAULTS: dict[str, Any] = {
    "ATOMIC_REQUESTS": False,
    "AUTOCOMMIT": True,
    "CONN_MAX_AGE": 0,
    "CONN_HEALTH_CHECKS": False,
    "OPTIONS": {},
    "TIME_ZONE": None,
    "NAME": "",
    "USER": "",
    "PASSWORD": "",
    "HOST": "",
    "PORT": "",
}
_TEST = {"CHARSET": None, "COLLATION": None, "MIGRATE": True, "MIRROR": None, "NAME": None}


@contextmanager
def extra_database(configuration: Mapping[str, Any]) -> Iterator[str]:
    """A connection with these settings for the block and this thread; gives its alias. It is closed and forgotten afterwards."""
    alias = f"extra-{uuid.uuid4().hex[:8]}"
    full = {**deepcopy(_DEFAULTS), **deepcopy(dict(configuration)), "TEST": dict(_TEST)}
    connections[alias] = load_backend(full["ENGINE"]).DatabaseWrapper(full, alias)
    try:
        yield alias
    finally:
        connections[alias].close()
        del connections[alias]


@contextmanager
def scratch_file(purpose: str, *, folder: Path | None = None) -> Iterator[Path]:
    """A path for a file that is removed afterwards with whatever stands beside it. It may hold what backups hold: only its owner reads it.

    What a process that was killed has left goes at the next time. Raises ``NoRoom`` when the disk is full meanwhile.
    """
    parent = folder or Path(settings.DATA_DIR)
    parent.mkdir(parents=True, exist_ok=True)
    _remove_dead(parent, f".{purpose}-")
    with (
        tempfile.TemporaryDirectory(prefix=f".{purpose}-", dir=parent) as name,
        (Path(name) / "held").open("w") as held,
    ):
        # The kernel lets go of it when this process ends, however it does.
        fcntl.flock(held, fcntl.LOCK_EX)
        try:
            yield Path(name) / f"{purpose}.sqlite3"
        except (sqlite3.OperationalError, OSError) as error:
            if _is_full(error):
                raise NoRoom(
                    f"There is not enough room in {parent} to look at the backup there ({error}). Nothing was changed. Make room, and begin again."
                ) from error
            raise


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
    return "full" in str(error) or "disk I/O error" in str(error)


def _remove_dead(parent: Path, prefix: str) -> None:
    for left in parent.glob(f"{prefix}*"):
        with suppress(OSError), (left / "held").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def scratch_sqlite(purpose: str) -> Iterator[str]:
    """An empty SQLite database that is thrown away; gives its alias. A crash of the machine may lose it, nothing else."""
    with (
        scratch_file(purpose) as path,
        extra_database(
            {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(path),
                "OPTIONS": {
                    "timeout": 20,
                    "init_command": "PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF; PRAGMA temp_store=FILE; PRAGMA cache_size=-32000;",
                },
            }
        ) as alias,
    ):
        yield alias


@contextmanager
def database_at(url: str) -> Iterator[str]:
    """The database that a URL names (``postgresql://…``, ``sqlite:///…``); gives its alias. Raises ``BackupError`` with a sentence."""
    try:
        configuration = environ.Env.db_url_config(url)
    except Exception as error:
        raise BackupError(
            "This is no address of a database. Use postgresql://user:password@host:5432/name or sqlite:////path/to/file.sqlite3."
        ) from error
    if not configuration.get("ENGINE", "").endswith(("sqlite3", "postgresql")):
        raise BackupError(
            "Switchboard keeps its rows in SQLite or PostgreSQL; this address is of another kind of database."
        )
    present = connections[DEFAULT_DB_ALIAS].settings_dict
    if configuration["ENGINE"].endswith("sqlite3"):
        Path(configuration["NAME"]).parent.mkdir(parents=True, exist_ok=True)
        if present["ENGINE"].endswith("sqlite3"):
            configuration["OPTIONS"] = deepcopy(present["OPTIONS"])
    with extra_database(configuration) as alias:
        try:
            connections[alias].ensure_connection()
        except Exception as error:
            raise BackupError(f"The database cannot be reached: {' '.join(str(error).split())[:300]}") from error
        yield alias


def migrate(alias: str) -> None:
    """Bring a database to the present schema."""
    call_command("migrate", database=alias, interactive=False, verbosity=0)
