"""What all tests share: the project on the import path, and the peers' fixtures."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

_ROOT = str(Path(__file__).resolve().parents[1])
if _ROOT not in sys.path:
    sys.path.insert(0, _ROOT)

# The tests start hundreds of processes, among them Synapse and Letta with thousands of modules. Where an image forbids keeping compiled
# modules, each of them would compile everything anew, which takes longer than all else together.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

pytest_plugins = ["tests.peers.fixtures"]


def pytest_configure(config):
    """The run of the tests is no process of an installation, whatever parts of it are started in here."""
    from ops.processes import reporter

    reporter.enabled = False

    from django.conf import settings

    # A password's hash is slow on purpose, a third of a second. Those of tests guard nothing.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher", *settings.PASSWORD_HASHERS]


@pytest.fixture(autouse=True)
def _nobody_holds_still():
    """Whether rows are being put back is asked of the database now and then, by whoever comes first: not while tests count queries.

    A test that begins ``ops.quiet.quiet``, or calls ``look_again``, sees what is so.
    """
    from ops import quiet

    quiet._seen, quiet._life = ("", float("inf")), None


@pytest.fixture(scope="session")
def django_db_keepdb(django_db_keepdb):
    """Of SQLite there is a database with all tables already; see below."""
    from django.db import connections

    return django_db_keepdb or all(connection.vendor == "sqlite" for connection in connections.all())


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings, tmp_path_factory):
    """SQLite in a file, as in production: in memory, connections of several threads lock each other out without waiting.

    On PostgreSQL ``TEST_DATABASE_TEMPLATE`` may name a database with tables (``tests.support.prepared.template_of``).
    """
    from django.db import connections

    from tests.support.prepared import copy_database

    for connection in connections.all():
        if connection.vendor == "postgresql" and (template := os.environ.get("TEST_DATABASE_TEMPLATE")):
            connection.settings_dict["TEST"]["TEMPLATE"] = template
        if connection.vendor == "sqlite":
            connection.settings_dict["TEST"]["NAME"] = str(
                copy_database(tmp_path_factory.mktemp("db") / f"{connection.alias}.sqlite3")
            )


# Folders whose files take longest, because they wait for servers; begun first, so that none of them is left alone at the end.
_LONGEST = ("tests/doctor/", "tests/faults/", "tests/e2e/", "tests/up/", "tests/ops/doctor/", "tests/agents/doctor/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first; within a folder as collected."""

    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(_ROOT).as_posix()
        return next((number for number, folder in enumerate(_LONGEST) if path.startswith(folder)), len(_LONGEST))

    items.sort(key=place)
