"""An installation without servers: a data directory, a database, commands as processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.peers.base import PROJECT_ROOT
from tests.support.prepared import copy_database
from tests.up.running import clean_environment

_CONTENTS = """
import hashlib, json, orjson
from tests.support.every_model import contents
print(json.dumps({label: hashlib.sha256(orjson.dumps(rows)).hexdigest() for label, rows in contents().items()}))
"""


class PlainHouse:
    """``database_url`` empty: SQLite in the data directory, with all tables unless ``fresh``. Another has the tables that it has."""

    def __init__(self, folder: Path, *, database_url: str = "", fresh: bool = False, **settings: str) -> None:
        self.data = folder / "data"
        self.data.mkdir(parents=True)
        if database_url:
            settings["DATABASE_URL"] = database_url
        elif not fresh:
            copy_database(self.data / "switchboard.sqlite3")
        self.environment = clean_environment(
            DATA_DIR=str(self.data), SWITCHBOARD_ENV_FILE=str(folder / "settings.env"), **settings
        )

    def run(self, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Python with these arguments."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=PROJECT_ROOT,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def manage(self, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """``manage.py`` with these arguments."""
        return self.run("manage.py", *arguments, check=check, **environment)

    def inside(self, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """``tests.faults.restore_inside`` with these arguments."""
        return self.run("-m", "tests.faults.restore_inside", *arguments, check=check, **environment)

    def ask(self, code: str) -> Any:
        """What the code prints last, as JSON, with Django set up."""
        done = self.run("-c", f"import django; django.setup()\n{code}")
        return json.loads(done.stdout.strip().splitlines()[-1])

    def contents(self) -> dict[str, str]:
        """A digest of each table that a restore makes equal."""
        found: dict[str, str] = self.ask(_CONTENTS)
        return found
