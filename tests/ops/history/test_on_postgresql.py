"""Versions, their keeping and lost secrets mean the same on PostgreSQL: those tests run there once more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.peers.postgres import Postgres
from tests.support.prepared import template_of

ROOT = Path(__file__).resolve().parents[3]
THERE = (
    "tests/ops/history/test_versions.py",
    "tests/ops/history/test_restored.py",
    "tests/chat/people/test_versions.py",
    "tests/agents/test_versions.py",
    "tests/ops/doctor/data/test_lost_key.py",
)


def test_versions_and_lost_secrets_on_postgresql(postgres: Postgres) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *THERE],
        env={
            **os.environ,
            "DATABASE_URL": postgres.create_database("versions"),
            "TEST_DATABASE_TEMPLATE": template_of(postgres),
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
