"""What leans on the database itself, run once more on PostgreSQL: search, lists and branches of the portal."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from django.db import connection

from tests.peers.switchboard import PROJECT
from tests.support.prepared import template_of

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.skipif(connection.vendor == "postgresql", reason="the run itself is on PostgreSQL"),
]
FILES = (
    "tests/chat/portal/test_search.py",
    "tests/api/test_people_conversations.py",
    "tests/api/test_people_messages.py",
)


def test_the_same_on_postgresql(postgres, tmp_path):
    address = postgres.create_database("portal_of_people")
    environment = {
        **os.environ,
        "DATABASE_URL": address,
        "TEST_DATABASE_TEMPLATE": template_of(postgres),
        "DATA_DIR": str(tmp_path),
    }
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *FILES, "-q", "-p", "no:cacheprovider", "--create-db"],
        cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=560,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-4000:]
    assert " passed" in run.stdout
    assert "skipped" not in run.stdout
