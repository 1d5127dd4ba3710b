"""What all tests share: the project on the import path, and the peers' fixtures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

_ROOT = str(Path(__file__).resolve().parents[1])
if _ROOT not in sys.path:
    sys.path.insert(0, _ROOT)

pytest_plugins = ["tests.peers.fixtures"]


def pytest_configure(config):
    """The run of the tests is no process of an installation, whatever parts of it are started in here."""
    from ops.processes import reporter

    reporter.enabled = False


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings, tmp_path_factory):
    """SQLite in a file, as in production: in memory, connections of several threads lock each other out without waiting."""
    from django.db import connections

    for connection in connections.all():
        if connection.vendor == "sqlite":
            connection.settings_dict["TEST"]["NAME"] = str(
                tmp_path_factory.mktemp("db") / f"{connection.alias}.sqlite3"
            )
