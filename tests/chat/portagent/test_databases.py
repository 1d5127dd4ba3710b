"""The old databases are read as they lie: in use, locked, large, absent; and what the command says of it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from chat.models import Person
from chat.portagent.databases import NotPortagent
from chat.services.portagent_import import portagent_import
from tests.chat.portagent.conftest import HASH, Run
from tests.chat.portagent.fixtures import (
    T0,
    Portagent,
    agent_says,
    talk,
    user_says,
)

pytestmark = pytest.mark.django_db


def test_a_database_in_use_is_read_without_disturbing_it(old: Portagent, ada: str) -> None:
    old.conversation(1, old.container(ada), [user_says("checkpointed")])
    writer = old.store()
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("PRAGMA wal_autocheckpoint = 0")
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE kv_storage SET updated_at = 1")
    assert Run(old.folder).counts("create")["message"] == 1
    writer.execute("COMMIT")
    writer.close()


def test_a_locked_database_is_copied_with_its_wal(old: Portagent, ada: str) -> None:
    old.conversation(1, old.container(ada), [user_says("in the log")])
    holder = sqlite3.connect(old.users_path, isolation_level=None)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    run = Run(old.folder)
    holder.execute("ROLLBACK")
    holder.close()
    assert run.counts("create") == {"user": 1, "image": 1, "message": 1}


def test_reading_changes_no_byte_of_it(old: Portagent, ada: str) -> None:
    old.conversation(1, old.container(ada), talk())
    for file in (old.users_path, old.store_path):
        before = file.read_bytes()
        Run(old.folder)
        assert file.read_bytes() == before


def test_places_without_portagent_are_named(tmp_path: Path) -> None:
    for wrong in (tmp_path / "missing", tmp_path):
        with pytest.raises(NotPortagent, match=r"There is nothing|No database"):
            portagent_import(path=wrong, actor="test")
    other = sqlite3.connect(tmp_path / "unstorage.db")
    other.execute("CREATE TABLE unstorage (id TEXT, value TEXT)")
    other.close()
    with pytest.raises(NotPortagent, match=r"unstorage\.db"):
        portagent_import(path=tmp_path, actor="test")


def test_a_hundred_thousand_messages_in_bounded_memory(old: Portagent, ada: str, tmp_path: Path) -> None:
    """Planned in a process of its own, whose peak is measured against one with a hundredth of them."""
    container = old.container(ada)
    small = Portagent(tmp_path / "small")
    small.user(1, "ada", passwordHash=HASH)
    messages = [
        message
        for number in range(500)
        for message in (user_says(f"question {number} " + "x" * 200), agent_says("y" * 400))
    ]
    small.conversation(1, container, messages)
    with old.store() as store:
        for number in range(100):
            image, session = f"img_{number:04d}", f"sess_{number:04d}"
            text = json.dumps(
                {
                    "imageId": image,
                    "sessionId": session,
                    "containerId": container,
                    "name": "n",
                    "createdAt": T0,
                    "updatedAt": T0,
                }
            )
            store.execute("INSERT INTO kv_storage VALUES (?, ?, 1, 1)", [f"images:{image}", text])
            store.execute("INSERT INTO kv_storage VALUES (?, ?, 1, 1)", [f"messages:{session}", json.dumps(messages)])

    def peak(folder: Path) -> tuple[int, int]:
        code = (
            "import sys, resource, django; django.setup()\n"
            "from pathlib import Path\n"
            "from chat.portagent.databases import Databases\nfrom chat.portagent.plan import plan, Wishes\n"
            "class Here:\n"
            "    def known(self, kind, keys): return {}\n"
            "    def name_taken(self, name, exact=False): return False\n"
            "    def person_exists(self, key): return True\n"
            "    def owner_of(self, container): return None\n"
            f"n = sum(step.count for step in plan(Databases(Path({str(folder)!r})), Here(), Wishes()) if step.row.kind == 'message')\n"
            "print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=250)
        count, most = out.stdout.split()[-2:]
        return int(count), int(most)

    few, some_memory = peak(small.folder)
    many, much_memory = peak(old.folder)
    assert (few, many) == (1000, 100_000)
    assert much_memory < some_memory + 30_000, "kilobytes"


def test_the_command_reports_and_says_what_is_left_to_do(
    old: Portagent, ada: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    old.conversation(1, old.container(ada), talk())
    out = StringIO()
    call_command("import_portagent", str(old.folder), dry_run=True, stdout=out)
    assert "Nothing was changed" in out.getvalue()
    assert Person.objects.count() == 0
    old.conversation(2, "user-gone", [user_says("whose?")])
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("import_portagent", str(old.folder), stdout=out)
    assert ended.value.code == 1
    assert "2 rows are in portagent-rejects.jsonl" in out.getvalue()
    assert "1 conversation can be read but not continued" in out.getvalue()
    assert (tmp_path / "portagent-rejects.jsonl").exists()
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("import_portagent", str(old.folder), json=True, stdout=out)
    told = [json.loads(line) for line in out.getvalue().splitlines()]
    assert told[-1]["summary"]["counts"]["create"] == {}
    assert told[-1]["summary"]["counts"]["unchanged"] == {"user": 1, "image": 1, "message": 9}
    assert {one["code"] for one in told[:-1]} == {"portagent.no_owner", "portagent.no_conversation"}
    assert (tmp_path / "portagent-rejects-2.jsonl").exists(), "the first one is not written over"


def test_the_command_names_what_it_cannot_use(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="There is nothing"):
        call_command("import_portagent", str(tmp_path / "no"))
    with pytest.raises(CommandError, match="must be one agent"):
        call_command("import_portagent", str(tmp_path), agent="nobody")
