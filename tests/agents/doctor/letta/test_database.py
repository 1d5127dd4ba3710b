"""``letta.db_unreachable`` with a real PostgreSQL, and ``letta.pg_insert_or_ignore`` with real processes."""

from __future__ import annotations

import os
from typing import Any

import pytest

from agents.backends.letta.decode import error_from_message
from agents.doctor.letta.database import read_uri
from agents.doctor.letta.process import server_process
from agents.services.troubles import DATABASE_ERROR, is_database_error
from ops.doctor.guides import guide_for
from ops.services.repairs import repair_start, repair_undo
from ops.services.sightings import sighting_count
from tests.agents.doctor.letta.conftest import change, letta_service, outcome
from tests.peers.base import free_port

pytestmark = pytest.mark.django_db(transaction=True)
CHECK = "letta.db_unreachable"
PASSWORD = "a-very-secret-word"


def with_database(url: str, uri: str) -> Any:
    return letta_service(url, agents=False, credentials={"database_url": uri})


@pytest.fixture
def letta_database(postgres: Any) -> str:
    postgres.create_database("doctor_letta")
    with postgres.connect("doctor_letta") as connection:
        connection.execute("create extension if not exists vector")
        connection.execute("create table if not exists agents (id int)")
    return f"postgresql+asyncpg://postgres:{PASSWORD}@localhost:5432/doctor_letta?host={postgres.socket_folder}"


def test_a_database_that_is_well(letta_database: str, letta_stub: Any) -> None:
    with_database(letta_stub.url, letta_database)
    run = outcome(CHECK, "letta")
    assert run.status == "pass", run.sentence
    assert run.evidence["role"] == "postgres"
    assert run.evidence["connections_allowed"] == 200
    assert PASSWORD not in str(run.evidence) + run.sentence


def test_unknown_address_skips_with_its_reason(letta_stub: Any) -> None:
    letta_service(letta_stub.url, agents=False)
    run = outcome(CHECK, "letta")
    assert run.status == "skip"
    assert "Database address" in run.sentence


def test_nothing_listens_then_the_address_is_corrected(letta_database: str, letta_stub: Any) -> None:
    dead = f"postgresql://letta:{PASSWORD}@127.0.0.1:{free_port()}/letta"
    with_database(letta_stub.url, dead)
    run = outcome(CHECK, "letta")
    assert (run.status, run.evidence["cause"]) == ("fail", "unreachable")
    assert PASSWORD not in str(run.evidence) + run.sentence
    assert outcome("backend.reachable", "letta").status == "blocked"
    assert run.fix is not None
    params = {**run.fix.params, "secret": letta_database}
    done = repair_start(repair_id="config.edit", target=run.fix.target, params=params, actor="test", trigger="command")
    assert done.state == "succeeded", done.error
    assert outcome(CHECK, "letta").status == "pass"
    repair_undo(run=done, actor="test")
    assert outcome(CHECK, "letta").status == "fail"


@pytest.mark.parametrize(
    ("database", "user", "cause"), [("nowhere", "postgres", "database"), ("doctor_letta", "nobody", "role")]
)
def test_what_the_server_refuses_is_named(
    database: str, user: str, cause: str, letta_database: str, letta_stub: Any, postgres: Any
) -> None:
    with_database(letta_stub.url, f"postgresql://{user}:{PASSWORD}@localhost/{database}?host={postgres.socket_folder}")
    run = outcome(CHECK, "letta")
    assert (run.status, run.evidence["cause"]) == ("fail", cause)


def test_a_database_without_the_extension_or_tables(postgres: Any, letta_stub: Any) -> None:
    postgres.create_database("doctor_bare")
    uri = f"postgresql://postgres:x@localhost/doctor_bare?host={postgres.socket_folder}"
    service = with_database(letta_stub.url, uri)
    assert "CREATE EXTENSION vector" in outcome(CHECK, "letta").sentence
    with postgres.connect("doctor_bare") as connection:
        connection.execute("create extension vector")
    run = outcome(CHECK, "letta")
    assert run.status == "warn"
    assert "migrations have not run" in run.sentence
    change(service, credentials={"database_url": "mysql://x"})
    assert outcome(CHECK, "letta").status == "fail"


def test_the_login_that_everybody_knows_is_warned_of(letta_database: str, letta_stub: Any, postgres: Any) -> None:
    with postgres.connect("postgres") as connection:
        if not connection.execute("select 1 from pg_roles where rolname = 'letta'").fetchone():
            connection.execute("create role letta login password 'letta'")
    with_database(letta_stub.url, f"postgresql://letta:letta@localhost/doctor_letta?host={postgres.socket_folder}")
    run = outcome(CHECK, "letta")
    assert run.status == "warn"
    assert "letta/letta" in run.sentence
    guide = guide_for(CHECK, "letta")
    assert guide is not None
    assert any("ALTER ROLE" in step.snippet for step in guide.steps)


def test_addresses_as_letta_takes_them_are_understood() -> None:
    found = read_uri(
        "postgresql+pg8000://letta:l%40x@db.test:6543/letta?prepared_statement_cache_size=0&sslmode=require"
    )
    assert (found.host, found.port, found.name, found.user, found.password) == (
        "db.test",
        6543,
        "letta",
        "letta",
        "l@x",
    )
    assert found.conninfo == "postgresql://letta:l%40x@db.test:6543/letta?sslmode=require"
    with pytest.raises(ValueError, match="postgresql://"):
        read_uri("sqlite:///letta.db")


# letta.pg_insert_or_ignore

SQL = "letta.pg_insert_or_ignore"


def test_a_process_without_the_variable_is_found(letta_stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    letta_service(letta_stub.url)
    process, why = server_process(letta_stub.url)
    assert why == ""
    assert process is not None
    assert process.pid == letta_stub.process.pid
    assert "PATH" in process.environment
    run = outcome(SQL, "letta")
    assert run.status == "fail"
    assert run.evidence["LETTA_PG_URI"] == "is not set"
    guide = guide_for(SQL, "letta")
    assert guide is not None
    assert any(step.snippet.startswith("LETTA_PG_URI=postgresql://") for step in guide.steps)


def test_a_process_with_the_variable_is_well(letta: Any) -> None:
    letta_service(letta.url, agents=False)
    run = outcome(SQL, "letta")
    assert run.status == "pass", run.sentence
    assert run.evidence["LETTA_PG_URI"] == "is set"
    assert os.environ.get("PATH", "?") not in str(run.evidence)


def test_the_signature_in_an_answer_is_recognised(letta: Any) -> None:
    service = letta_service(letta.url, agents=False)
    words = 'syntax error at or near "OR"\n[SQL: INSERT OR IGNORE INTO message_sequence (id, next_val) VALUES (1, 1)]'
    error = error_from_message({"error_type": "internal_error", "message": words}, "POST …", ())
    assert is_database_error(error.reason)
    sighting_count(service=service.name, kind=DATABASE_ERROR, sample=error.reason)
    run = outcome(SQL, "letta")
    assert run.status == "fail"
    assert "SQLite SQL against PostgreSQL" in run.sentence


def test_a_database_error_without_its_reason_is_a_warning(letta: Any) -> None:
    service = letta_service(letta.url, agents=False)
    sighting_count(service=service.name, kind=DATABASE_ERROR, sample="(HTTP 500): A database error occurred.")
    run = outcome(SQL, "letta")
    assert run.status == "warn"
    assert "Letta's log" in run.sentence


def test_another_machine_is_not_looked_into() -> None:
    process, why = server_process("http://192.0.2.1:8283")
    assert process is None
    assert "another machine" in why
