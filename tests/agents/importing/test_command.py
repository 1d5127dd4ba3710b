"""``manage.py import_mappings``: what it prints, writes and ends with."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from agents.models import Mapping, MappingImport
from tests.agents.importing.conftest import Predecessor
from tests.agents.importing.files import agent_id, as_bytes, file_of


def run(*arguments: Any) -> tuple[int, str]:
    out = StringIO()
    try:
        call_command("import_mappings", *map(str, arguments), "--service", "scripts", stdout=out)
    except SystemExit as end:
        return int(str(end.code)), out.getvalue()
    except CommandError as error:
        return error.returncode, str(error)
    return 0, out.getvalue()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "agent_user_mappings.json"


def test_all_is_taken_over_and_said(predecessor: Predecessor, file: Path) -> None:
    predecessor.makes(1, 2)
    file.write_bytes(predecessor.file(1, 2))
    code, text = run(file)
    assert code == 0, text
    assert "2 records taken over" in text
    assert Mapping.objects.count() == 2
    assert "word-of-agent" not in text
    code, text = run(file)
    assert (code, "2 were here already" in text) == (0, True), text


def test_a_dry_run_leaves_no_trace(predecessor: Predecessor, file: Path) -> None:
    predecessor.makes(1)
    file.write_bytes(predecessor.file(1))
    code, text = run(file, "--dry-run", "--json")
    report = json.loads(text)
    assert (code, report["dry_run"], report["counts"]["create"]) == (0, True, 1)
    assert not Mapping.objects.exists()
    assert not MappingImport.objects.exists()


def test_what_cannot_be_taken_is_written_to_a_file_of_its_owner_and_ends_with_one(
    predecessor: Predecessor, file: Path, tmp_path: Path
) -> None:
    predecessor.makes(1, 2)
    data = predecessor.file(1, 2)
    file.write_bytes(data[:-60])
    rejects = tmp_path / "rejects.json"
    code, text = run(file, "--rejects", rejects)
    assert code == 1
    assert "line" in text
    assert str(rejects) in text.replace("\n", "")
    assert rejects.stat().st_mode & 0o077 == 0
    body = json.loads(rejects.read_bytes())
    body["records"][0]["text"] = f'"{agent_id(2)}": {json.dumps(predecessor.entry(2))}'
    rejects.write_text(json.dumps(body))
    assert run(rejects)[0] == 0
    assert Mapping.objects.count() == 2
    assert run(rejects, "--rejects", rejects)[0] == 3


def test_a_conflict_ends_with_two_until_a_side_is_preferred(predecessor: Predecessor, file: Path) -> None:
    predecessor.makes(1)
    file.write_bytes(as_bytes(file_of(predecessor.entry(1) | {"room_id": "!gone:fake.test"})))
    code, text = run(file)
    assert code == 2
    assert "1 conflict waits for a decision" in text
    assert not Mapping.objects.exists()
    assert run(file, "--prefer", "homeserver")[0] == 0
    assert Mapping.objects.get().room.room_id == predecessor.rooms[1].room_id


def test_usage_ends_with_three(predecessor: Predecessor, tmp_path: Path) -> None:
    assert run()[0] == 3
    code, text = run(tmp_path / "nothing.json")
    assert (code, "cannot be read" in text) == (3, True)
    assert run("--database", "mysql://host/name") == (3, "mysql:// is none of postgresql:// and sqlite:///.")


def test_a_file_that_holds_nothing_says_so(predecessor: Predecessor, file: Path) -> None:
    file.write_text("{}")
    code, text = run(file)
    assert code == 0
    assert "as after a crash" in text
    file.write_text("not json at all")
    assert run(file)[0] == 1
