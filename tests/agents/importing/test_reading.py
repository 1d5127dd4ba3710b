"""Files of the predecessor, whole and broken: every record that is whole is read, everything else is named with its place."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from agents.importing.read import read_file
from agents.importing.records import Reading, Record
from agents.importing.relational import DatabaseUnreadable, read_address
from tests.agents.importing.files import agent_id, as_bytes, file_of, mapping, user_id, without

FIVE = ("matrix_password", "created", "invitation_status")


def read(value: Any, name: str = "file.json") -> Reading:
    return read_file(name, value if isinstance(value, bytes) else as_bytes(value))


def one(reading: Reading) -> Record:
    assert len(reading.records) == 1, reading.records
    return reading.records[0]


def codes(reading: Reading) -> list[str]:
    return [finding.code for finding in reading.findings]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(file_of(mapping(1)), id="all eight fields"),
        pytest.param(file_of(without(mapping(1), "invitation_status")), id="without invitations"),
        pytest.param(file_of(without(mapping(1), *FIVE)), id="five fields"),
        pytest.param(file_of(without(mapping(1), "agent_id", *FIVE)), id="no agent_id"),
        pytest.param(file_of(without(mapping(1), "matrix_password")), id="no password"),
        pytest.param(
            file_of(without(mapping(1), "room_id") | {"matrix_room_id": "!room1:sb.test"}), id="matrix_room_id"
        ),
        pytest.param(file_of(mapping(1, removed_at="2026-01-02T03:04:05.678")), id="removed"),
        pytest.param(mapping(1), id="one flat object"),
        pytest.param(without(mapping(1), "agent_id", *FIVE), id="one flat object without an id"),
        pytest.param([mapping(1)], id="a list"),
        pytest.param({"success": True, "mappings": file_of(mapping(1))}, id="an answer of its interface"),
        pytest.param(b"\xef\xbb\xbf" + as_bytes(file_of(mapping(1))), id="a byte order mark"),
        pytest.param(as_bytes(file_of(mapping(1))).decode().encode("utf-16"), id="UTF-16"),
    ],
)
def test_every_variant_of_the_mappings_is_read(value: Any) -> None:
    record = one(read(value))
    assert record.problem is None
    assert (record.kind, record.key) == ("mapping", agent_id(1))
    assert (record.fields["user_id"], record.fields["room_id"]) == (user_id(1), "!room1:sb.test")
    assert record.label == "Agent 1"


def test_what_is_missing_is_empty_and_what_is_there_is_kept() -> None:
    full, five = one(read(file_of(mapping(1)))), one(read(file_of(without(mapping(1), *FIVE))))
    assert (full.fields["password"], five.fields["password"]) == ("word-of-agent-1", "")
    assert full.fields["invitations"] == {"@admin:sb.test": "invited", "@letta:sb.test": "failed"}
    removed = one(read(file_of(mapping(1, removed_at="2026-01-02T03:04:05"))))
    assert removed.fields["removed_at"] == "2026-01-02T03:04:05+00:00"
    assert one(read(file_of(mapping(1, room_id=None, room_created=False)))).fields["room_id"] == ""


def test_unknown_fields_are_told_of_and_kept() -> None:
    record = one(read(file_of(mapping(1, mood="good", shoe_size=43))))
    assert record.problem is None
    assert record.notes == ("Fields that mean nothing here: mood, shoe_size.",)
    assert record.raw.value["mood"] == "good"


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        (mapping(1, matrix_user_id="agent_1"), "mapping.user_id_invalid"),
        (mapping(1, matrix_user_id=""), "mapping.no_account"),
        (mapping(1, room_id="room1"), "mapping.room_id_invalid"),
        (mapping(1, agent_id=agent_id(2)), "mapping.id_differs"),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused_with_a_sentence(entry: dict[str, Any], code: str) -> None:
    record = one(read({agent_id(1): entry}))
    assert record.problem is not None
    assert record.problem[0] == code
    assert record.problem[1].endswith(".")


def test_of_an_agent_that_stands_twice_the_last_entry_counts() -> None:
    text = as_bytes(file_of(mapping(1)))[:-2] + b",\n" + as_bytes(file_of(mapping(1, room_id="!new:sb.test")))[1:]
    first, last = read(text).records
    assert first.problem is not None
    assert first.problem[0] == "mapping.repeated"
    line = 1 + text.count(b"\n", 0, text.rindex(agent_id(1).encode(), 0, text.rindex(b"agent_name") - 50))
    assert f"line {line};" in first.problem[1]
    assert (last.problem, last.fields["room_id"]) == (None, "!new:sb.test")


def test_a_file_cut_off_anywhere_loses_nothing_that_is_whole() -> None:
    """Every length of a file of three, cut in the middle of any byte: whole entries are read, the rest is named."""
    data = as_bytes(file_of(mapping(1), mapping(2), mapping(3)))
    ends = [data.index(f'"{agent_id(number)}"'.encode()) for number in (2, 3)]
    for length in range(1, len(data) - 2, 7):
        reading = read(data[:length])
        whole = [record.key for record in reading.records if record.problem is None]
        at_least = sum(length >= end for end in ends)
        assert whole[:at_least] == [agent_id(1), agent_id(2)][:at_least], length
        assert len(whole) <= at_least + 1
        assert reading.findings, length
    reading = read(data[: ends[1] + 80])
    broken = reading.records[-1]
    assert (broken.kind, broken.key) == ("broken", agent_id(3))
    finding = reading.findings[0]
    assert finding.code == "import.truncated"
    line, column = finding.evidence["line"], finding.evidence["column"]
    assert f"line {line}, column {column}" in finding.sentence
    assert data[: ends[1] + 80].decode().splitlines()[line - 1] != ""


def test_a_broken_entry_in_the_middle_costs_only_itself() -> None:
    text = as_bytes(file_of(mapping(1), mapping(2), mapping(3))).decode()
    broken = text.replace('"agent_name": "Agent 2"', '"agent_name": Agent 2"')
    reading = read(broken.encode())
    assert [record.key for record in reading.records if record.problem is None] == [agent_id(1), agent_id(3)]
    finding = next(finding for finding in reading.findings if finding.severity == "error")
    line = next(number for number, row in enumerate(broken.splitlines(), 1) if "Agent 2" in row)
    assert finding.evidence["line"] == line
    assert "word-of-agent-2" not in json.dumps([finding.to_dict() for finding in reading.findings])


def test_an_empty_map_says_what_happened() -> None:
    assert codes(read(b"{}")) == ["import.empty"]
    assert codes(read(b"")) == ["import.empty"]
    assert codes(read(b"<html>")) == ["import.not_json"]
    assert not read(b"{}").records


def test_bytes_that_are_no_text_cost_only_the_entry_whose_id_they_are_in() -> None:
    data = as_bytes(file_of(mapping(1), mapping(2), mapping(3)))
    named = read(data.replace(b"Agent 2", b"Agent \xff"))
    assert [record.problem for record in named.records] == [None, None, None]
    finding = named.findings[0]
    assert finding.code == "import.not_utf8"
    assert data.splitlines()[finding.evidence["line"] - 1][finding.evidence["column"] - 1 :].startswith(b"2")
    in_id = read(data.replace(b"!room2", b"!room\xff"))
    assert [record.problem is None for record in in_id.records] == [True, False, True]


@pytest.mark.parametrize("made", [1763160328, 1763160328.3942711])
def test_the_space_is_read_with_either_time(made: float) -> None:
    record = one(read({"space_id": "!space:sb.test", "created_at": made, "name": "Letta Agents"}))
    assert (record.kind, record.key) == ("space", "!space:sb.test")
    assert record.fields["created_at"].startswith("2025-11-14T22:45:28")


@pytest.mark.parametrize(
    "text",
    [
        '{"space_id": "!space:sb.test, "created_at": 1763160328, "name": "Letta Agents"}',
        '{"space_id": "!space:sb.test", "created_at": 1763160328, "name": "Letta Agents}',
        '{"space_id": "!space:sb.test", created_at": 1763160328, "name": "Letta Agents"}',
        '{"space_id": "!space:sb.test" "created_at": 1763160328, "name": "Letta Agents"}',
        '{\n  "space_id": "!space:sb.test",\n  "created_at": 1763160328,\n  "name": "Letta Agents",\n}',
        '{"space_id": "!space:sb.test", "created_at": 1763160328, "name": "Letta Agents"',
        '{"space_id": "!space:sb.test, "created_at": 1763160328, "name": "Letta Agents}',
    ],
)
def test_a_space_that_hands_have_broken_is_put_right_and_told_of(text: str) -> None:
    reading = read(text.encode(), "letta_space_config.json")
    record = one(reading)
    assert (record.fields["room_id"], record.fields["name"]) == ("!space:sb.test", "Letta Agents")
    assert codes(reading) == ["import.repaired"]
    assert "line" in reading.findings[0].sentence
    assert "missing" in reading.findings[0].sentence or "comma" in reading.findings[0].sentence


def test_a_space_that_cannot_be_understood_is_no_guess() -> None:
    reading = read(b'{"space_id": , "name": "Letta Agents"}')
    assert not [record for record in reading.records if record.problem is None]
    assert reading.findings[0].evidence["line"] == 1


def test_kinds_of_files_are_seen_from_what_is_in_them() -> None:
    identity = {"id": "letta_1", "mxid": user_id(1), "displayName": "One", "accessToken": "syt_secret", "type": "letta"}
    direct = {"@a:sb.test<->@b:sb.test": {"roomId": "!dm:sb.test", "participants": ["@a:sb.test", "@b:sb.test"]}}
    assert read({"letta_1": identity}, "x.backup").kind == "identity"
    assert read([identity]).kind == "identity"
    assert read({"version": 1, "updatedAt": 1763160328000}).kind == "metadata"
    assert codes(read({"anything": {"else": 1}})) == ["import.unknown_records"]
    assert read(file_of(mapping(1)), "letta_space_config.json").kind == "mapping"
    assert read(direct).records


def test_ten_thousand_entries_are_read_in_seconds() -> None:
    data = as_bytes(file_of(*(mapping(number) for number in range(10_000))))
    began = time.process_time()
    reading = read(data)
    took = time.process_time() - began
    assert len([record for record in reading.records if record.problem is None]) == 10_000
    assert reading.records[-1].raw.line == 1 + data[: data.rindex(f'"{agent_id(9999)}": {{'.encode())].count(b"\n")
    # Quadratic work would take minutes.
    assert took < 60, took


SCHEMA = """
CREATE TABLE agent_mappings (agent_id VARCHAR PRIMARY KEY, agent_name VARCHAR, matrix_user_id VARCHAR, matrix_password VARCHAR,
  room_id VARCHAR, room_created BOOLEAN, created_at DATETIME, updated_at DATETIME, removed_at DATETIME);
CREATE TABLE invitation_status (agent_id VARCHAR, invitee VARCHAR, status VARCHAR);
CREATE TABLE portal_agent_links (agent_id VARCHAR, room_id VARCHAR, enabled BOOLEAN, created_at DATETIME);
CREATE TABLE identities (id VARCHAR PRIMARY KEY, identity_type VARCHAR, mxid VARCHAR, display_name VARCHAR, avatar_url VARCHAR,
  access_token TEXT, password_hash TEXT, device_id VARCHAR, created_at DATETIME, updated_at DATETIME, last_used_at DATETIME,
  is_active BOOLEAN);
"""


def fill(execute: Any, mark: str = "?") -> None:
    row = (
        agent_id(1),
        "Agent 1",
        user_id(1),
        "word-of-agent-1",
        "!room1:sb.test",
        True,
        "2026-01-02 03:04:05",
        "2026-01-02 03:04:05",
        None,
    )
    gone = (
        agent_id(2),
        "Agent 2",
        user_id(2),
        "word-of-agent-2",
        None,
        False,
        "2026-01-02 03:04:05",
        "2026-01-02 03:04:05",
        "2026-02-02 03:04:05",
    )
    for values in (row, gone):
        execute(f"INSERT INTO agent_mappings VALUES ({', '.join([mark] * 9)})", values)
    execute(f"INSERT INTO invitation_status VALUES ({mark}, {mark}, {mark})", (agent_id(1), "@admin:sb.test", "joined"))
    execute(f"INSERT INTO portal_agent_links VALUES ({mark}, {mark}, {mark}, NULL)", (agent_id(1), "!wa:sb.test", True))
    execute(
        f"INSERT INTO identities VALUES ({', '.join([mark] * 12)})",
        (
            "letta_1",
            "letta",
            user_id(1),
            "One",
            None,
            "syt_secret",
            None,
            "DEVICE",
            "2026-01-02 03:04:05",
            "2026-01-02 03:04:05",
            None,
            True,
        ),
    )


def check_database(reading: Reading) -> None:
    first, gone, identity = reading.records
    assert (first.key, first.fields["room_id"]) == (agent_id(1), "!room1:sb.test")
    assert first.fields["invitations"] == {"@admin:sb.test": "joined"}
    assert first.fields["removed_at"] == ""
    assert gone.fields["removed_at"].startswith("2026-02-02T03:04:05")
    assert (identity.kind, identity.fields["access_token"]) == ("identity", "syt_secret")
    assert codes(reading) == ["import.not_taken"]
    assert "1 row is not taken" in reading.findings[0].sentence


def test_the_later_database_is_read_from_sqlite(tmp_path: Path) -> None:
    place = tmp_path / "agent_mappings.db"
    with sqlite3.connect(place) as database:
        database.executescript(SCHEMA)
        fill(database.execute)
    database.close()
    check_database(read_file("whatever.bin", place.read_bytes()))
    check_database(read_address(f"sqlite:///{place}"))
    before = place.read_bytes()
    read_address(str(place))
    assert place.read_bytes() == before
    with pytest.raises(DatabaseUnreadable, match="no file"):
        read_address("sqlite:////nowhere/at/all.db")


def test_the_later_database_is_read_from_postgresql(postgres: Any) -> None:
    import psycopg

    url = postgres.create_database("predecessor")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SCHEMA.replace("DATETIME", "TIMESTAMP"))
        fill(connection.execute, "%s")
    check_database(read_address(url))
    check_database(read_address(url.replace("postgresql://", "postgresql+asyncpg://", 1)))
    with pytest.raises(DatabaseUnreadable) as refused:
        read_address("postgresql://somebody:hush-hush@127.0.0.1:1/nothing")
    assert "hush-hush" not in str(refused.value)


def test_a_file_of_rejects_that_is_broken_itself_loses_only_what_is_broken() -> None:
    body = {
        "switchboard_rejects": 1,
        "records": [{"kind": "mapping", "key": agent_id(number), "record": mapping(number)} for number in (1, 2)],
    }
    reading = read(as_bytes(body)[:-40])
    assert [record.kind for record in reading.records] == ["broken", "mapping"]
    assert codes(reading) == ["import.truncated"]
    assert codes(read({"switchboard_rejects": 1, "records": []})) == ["import.empty"]
    assert read({"switchboard_rejects": 1, "records": ["what"]}).records[0].problem is not None


def test_an_sqlite_file_that_is_damaged_says_so(tmp_path: Path) -> None:
    reading = read(b"SQLite format 3\x00" + b"\x00" * 200)
    assert codes(reading) == ["import.database"]
    empty = tmp_path / "empty.db"
    with sqlite3.connect(empty) as database:
        database.execute("CREATE TABLE something (a)")
    database.close()
    assert codes(read(empty.read_bytes())) == ["import.no_tables"]
