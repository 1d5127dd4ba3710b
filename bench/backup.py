"""``backup``: writing a backup and loading it, beside ``pg_dump -Fc``/``pg_restore`` and SQLite's own ``.backup`` in the same run."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from bench.measure import median, run_inside
from bench.registry import Options
from bench.results import Figure, Report
from tests.peers.postgres import Postgres
from tests.peers.switchboard import Stack

# Nothing listens there: the rows only need servers to belong to.
NOWHERE = "http://127.0.0.1:9"
SHARE = 0.5
FEW = 10  # the smaller installation has a tenth of the rows


def run(options: Options) -> Report:
    """All rows, encrypted and compressed, of a tenth and of all: memory may not grow with the rows."""
    agents, messages, rounds = options.pick((500, 20_000, 3), (10_000, 1_000_000, 3))
    report = Report("backup", sizes={"agents": agents, "messages": messages, "rounds": rounds})
    with tempfile.TemporaryDirectory(prefix="sb-backup-") as folder, Postgres() as postgres:
        with postgres.connect("postgres") as connection:
            report.versions["postgresql"] = connection.execute("show server_version").fetchone()[0]
        report.versions["sqlite"] = sqlite3.sqlite_version
        for place in (_OnPostgres(postgres, Path(folder)), _OnSQLite(Path(folder))):
            few = place.fill(agents // FEW, messages // FEW, 1)
            many = place.fill(agents, messages, rounds)
            _tell(report, place, few, many)
    return report


def _tell(report: Report, place: _Place, few: dict[str, Any], many: dict[str, Any]) -> None:
    rows = many["write"][0]["rows"]

    def speed(step: str) -> float:
        return rows / median(one["seconds"] for one in many[step])

    kind = place.kind
    report.figures += [
        Figure(f"{kind}: rows written a second ({place.dump})", speed("write"), "/s", speed("dump"), SHARE, ">="),
        Figure(f"{kind}: rows loaded a second ({place.restore})", speed("load"), "/s", speed("restore"), SHARE, ">="),
        Figure(f"{kind}: peak memory, written", _peak(many, "write"), "MB", _peak(few, "write"), 1.25),
        Figure(f"{kind}: peak memory, loaded", _peak(many, "load"), "MB", _peak(few, "load"), 1.25),
        Figure(f"{kind}: size of the backup", many["write"][0]["mb"], "MB", many["dump"][0]["mb"]),
    ]
    report.raw[kind] = {"few": few, "many": many}


def _peak(found: dict[str, Any], step: str) -> float:
    return max(one["peak_mb"] for one in found[step])


class _Place(ABC):
    """A kind of database: filled, dumped and restored by its own tools and by us, in turns."""

    kind, dump, restore = "", "", ""

    def fill(self, agents: int, messages: int, rounds: int) -> dict[str, Any]:
        stack = self.stack(agents)
        stack.prepare()
        stack.stop()
        run_inside("backup_rows", stack.environment, agents=agents, messages=messages, timeout=3600)
        self.settle(agents)
        found: dict[str, Any] = {}
        for number in range(rounds):
            for step, function in self.steps(agents, stack, number).items():
                os.sync()  # what one has written is not for the next one to wait for
                found.setdefault(step, []).append(function())
        return found

    @abstractmethod
    def stack(self, agents: int) -> Stack:
        """Processes over an empty database of this kind."""

    @abstractmethod
    def settle(self, agents: int) -> None:
        """Let the database come to rest after it was filled."""

    @abstractmethod
    def steps(self, agents: int, stack: Stack, number: int) -> dict[str, Any]:
        """What is timed, in turns: the database's own tools and ours."""


def _timed(function: Any, *files: Path) -> dict[str, Any]:
    began = time.perf_counter()
    function()
    for file in files:
        with file.open("rb+") as opened:
            os.fsync(opened.fileno())
    return {"seconds": time.perf_counter() - began, "mb": sum(file.stat().st_size for file in files) / 1e6}


class _OnPostgres(_Place):
    kind, dump, restore = "PostgreSQL", "pg_dump -Fc", "pg_restore"

    def __init__(self, postgres: Postgres, folder: Path) -> None:
        self._postgres, self._folder = postgres, folder
        self._tools = postgres._binary.parent
        self._connect = ["-h", str(postgres.socket_folder), "-U", "postgres"]

    def stack(self, agents: int) -> Stack:
        url = self._postgres.create_database(f"b{agents}")
        return Stack(homeserver_url=NOWHERE, database_url=url, folder=self._folder / f"pg{agents}")

    def settle(self, agents: int) -> None:
        with self._postgres.connect(f"b{agents}") as connection:
            connection.execute("vacuum analyze")
            connection.execute("checkpoint")

    def steps(self, agents: int, stack: Stack, number: int) -> dict[str, Any]:
        ours, theirs = self._folder / "ours.sbk", self._folder / "theirs.dump"

        def dump() -> None:
            self._tool("pg_dump", "-Fc", "-f", str(theirs), f"b{agents}")

        def restore() -> None:
            self._tool("pg_restore", "-d", "restored", "--no-owner", str(theirs))

        def load() -> Any:
            url = self._fresh("loaded")
            return run_inside("backup_run", stack.environment, step="load", path=str(ours), target=url, timeout=3600)

        def theirs_again() -> dict[str, Any]:
            self._fresh("restored")
            return _timed(restore)

        return {
            "dump": lambda: _timed(dump, theirs),
            "write": lambda: run_inside("backup_run", stack.environment, step="write", path=str(ours), timeout=3600),
            "restore": theirs_again,
            "load": load,
        }

    def _fresh(self, name: str) -> str:
        self._postgres.drop_database(name)
        return self._postgres.create_database(name)

    def _tool(self, name: str, *arguments: str) -> None:
        subprocess.run([self._tools / name, *self._connect, *arguments], check=True, capture_output=True, timeout=3600)


class _OnSQLite(_Place):
    kind, dump, restore = "SQLite", ".backup", ".restore"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def stack(self, agents: int) -> Stack:
        return Stack(homeserver_url=NOWHERE, folder=self._folder / f"sqlite{agents}")

    def settle(self, agents: int) -> None:
        """The log is in the file already when nobody has it open."""

    def steps(self, agents: int, stack: Stack, number: int) -> dict[str, Any]:
        ours, theirs, again = (self._folder / name for name in ("ours.sbk", "theirs.sqlite3", "again.sqlite3"))
        (database,) = (stack.folder / "data").glob("*.sqlite3")

        def copy(source: Path, target: Path) -> dict[str, Any]:
            target.unlink(missing_ok=True)

            def work() -> None:
                # What the program's .backup and .restore do: a hundred pages at a time.
                with sqlite3.connect(source) as one, sqlite3.connect(target) as other:
                    one.backup(other, pages=100)
                one.close()
                other.close()

            return _timed(work, target)

        def load() -> Any:
            again.unlink(missing_ok=True)
            url = f"sqlite:///{again}"
            return run_inside("backup_run", stack.environment, step="load", path=str(ours), target=url, timeout=3600)

        return {
            "dump": lambda: copy(database, theirs),
            "write": lambda: run_inside("backup_run", stack.environment, step="write", path=str(ours), timeout=3600),
            "restore": lambda: copy(theirs, again),
            "load": load,
        }
