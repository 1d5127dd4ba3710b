"""What is written by hand in SQL (trees, usage, approvals, places) means the same on PostgreSQL: those tests run there once more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers.postgres import Postgres
from tests.support.prepared import template_of

ROOT = Path(__file__).resolve().parents[2]
THERE = (
    "test_branches.py",
    "test_quotas.py",
    "turns/test_approvals.py",
    "turns/test_places.py",
    "turns/test_files.py",
    "test_reset_rows.py",
)
RESTORED = ("restoring/test_words_since.py",)


@pytest.mark.parametrize(("name", "names"), [("by_hand", THERE), ("words_since", RESTORED)])
def test_statements_written_by_hand_on_postgresql(postgres: Postgres, name: str, names: tuple[str, ...]) -> None:
    url = postgres.create_database(name)
    files = [f"tests/chat/{name}" for name in names]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files],
        env={**os.environ, "DATABASE_URL": url, "TEST_DATABASE_TEMPLATE": template_of(postgres)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
