"""A process that makes a backup is killed with SIGKILL: nothing that looks whole is left, and the next run clears up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.base import PROJECT_ROOT
from tests.peers.postgres import Postgres
from tests.support.prepared import copy_database, database_with_tables


@pytest.fixture(params=["sqlite", "postgresql"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """An installation of its own."""
    clean = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "PYTEST_CURRENT_TEST")}
    environment = {**clean, "DJANGO_SETTINGS_MODULE": "controlplane.settings", "DATA_DIR": str(tmp_path / "data")}
    if request.param == "sqlite":
        copy_database(tmp_path / "data" / "switchboard.sqlite3")
        yield environment
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    environment["DATABASE_URL"] = database_with_tables(postgres, "vault_kill")
    yield environment


def manage(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_kill_9_leaves_nothing_that_looks_whole(environment: dict[str, str]) -> None:
    folder = Path(environment["DATA_DIR"]) / "backups"
    with subprocess.Popen(
        [sys.executable, "-m", "tests.ops.vault.slow_backup"], cwd=PROJECT_ROOT, env=environment,
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert any(line.strip() == "waiting" for line in process.stdout)
        left = list(folder.iterdir())
        assert [(path.suffix, path.name[0]) for path in left] == [(".partial", ".")]
        assert left[0].stat().st_size > 8 * 1024 * 1024, "it was in the middle of writing"
        process.kill()
    assert process.returncode == -9
    assert not list(folder.glob("*.sbk"))
    made = json.loads(manage(environment, "backup", "create", "--json"))
    assert made["state"] == "complete"
    rows = json.loads(manage(environment, "backup", "list", "--json"))
    assert [row["state"] for row in rows] == ["complete", "failed"]
    assert "ended while it was being made" in rows[1]["error"]
    assert [path.name for path in folder.iterdir()] == [f"{made['name']}.sbk"]
    assert not list(Path(environment["DATA_DIR"]).glob(".backup-*")), "copies of stores that were being made are gone"
