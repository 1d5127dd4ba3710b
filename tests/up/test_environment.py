"""Reading settings: names and aliases, files, generated keys, and what is reported."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from controlplane.env import Option, read_environment
from controlplane.options import NOT_NEEDED, OPTIONS, PREFIXES


def read(tmp_path, **environment: str):
    return read_environment(
        OPTIONS,
        base_dir=tmp_path,
        environment={"DATA_DIR": str(tmp_path / "data"), **environment},
        known_elsewhere=NOT_NEEDED,
        prefixes=PREFIXES,
    )


def codes(result) -> list[str]:
    return [problem.code for problem in result.problems]


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("LETTA_API_URL", "LETTA_BASE_URL"),
        ("MATRIX_HOMESERVER", "MATRIX_HOMESERVER_URL"),
        ("LLM_PROVIDER_URL", "ANTHROPIC_BASE_URL"),
        ("OPENAI_API_BASE", "OPENAI_BASE_URL"),
    ],
)
def test_predecessors_names_are_accepted(tmp_path, alias, name):
    result = read(tmp_path, **{alias: "http://127.0.0.1:1234/"})
    assert result[name] == "http://127.0.0.1:1234"
    assert result.sources[name] == alias
    assert codes(result) == []


def test_own_name_comes_before_an_alias(tmp_path):
    assert (
        read(tmp_path, LETTA_API_URL="http://old:1", LETTA_BASE_URL="http://new:1")["LETTA_BASE_URL"] == "http://new:1"
    )


def test_secret_from_a_file(tmp_path):
    (tmp_path / "token").write_text("s3cret-token\n")
    result = read(tmp_path, LETTA_TOKEN_FILE=str(tmp_path / "token"))
    assert result["LETTA_TOKEN"] == "s3cret-token"
    assert result.sources["LETTA_TOKEN"] == "LETTA_TOKEN_FILE"
    assert "s3cret-token" not in repr(result)


def test_alias_of_a_secret_from_a_file(tmp_path):
    (tmp_path / "token").write_text("s3cret-token\n")
    assert read(tmp_path, LETTA_PASSWORD_FILE=str(tmp_path / "token"))["LETTA_TOKEN"] == "s3cret-token"


def test_a_file_that_is_missing_is_reported(tmp_path):
    result = read(tmp_path, LETTA_TOKEN_FILE=str(tmp_path / "nowhere"))
    assert codes(result) == ["switchboard.E002"]
    assert "LETTA_TOKEN_FILE" in result.problems[0].sentence


def test_generated_keys_survive(tmp_path):
    first, second = read(tmp_path), read(tmp_path)
    for name in ("SECRET_KEY", "FIELD_ENCRYPTION_KEYS", "MATRIX_AS_TOKEN", "MATRIX_HS_TOKEN"):
        assert first[name] == second[name]
        assert first[name]
        path = tmp_path / "data" / "keys" / name.lower()
        assert path.stat().st_mode & 0o777 == 0o600
    assert first["MATRIX_AS_TOKEN"] != first["MATRIX_HS_TOKEN"]


def test_processes_that_start_together_agree_on_a_key(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(lambda _: read(tmp_path)["SECRET_KEY"], range(16)))
    assert len(set(values)) == 1
    assert not [name for name in os.listdir(tmp_path / "data" / "keys") if name.startswith(".")]


def test_an_empty_key_file_of_a_crash_is_replaced(tmp_path):
    folder = tmp_path / "data" / "keys"
    folder.mkdir(parents=True)
    (folder / "secret_key").write_text("")
    first = read(tmp_path)["SECRET_KEY"]
    assert len(first) > 40
    assert read(tmp_path)["SECRET_KEY"] == first


@pytest.mark.parametrize("value", ["changeme", "your-token-here", "<token>", "sk-...", "CHANGE_ME_PLEASE", "password"])
def test_placeholders_are_reported(tmp_path, value):
    result = read(tmp_path, LETTA_TOKEN=value)
    assert codes(result) == ["switchboard.W001"]
    assert "LETTA_TOKEN" in result.problems[0].sentence


def test_unknown_names_are_reported_with_the_nearest(tmp_path):
    result = read(tmp_path, MATRIX_HOMESERVER_ULR="http://x", HOME="/root", MATRIXX="no prefix of ours")
    assert codes(result) == ["switchboard.W002"]
    assert "MATRIX_HOMESERVER_URL" in result.problems[0].hint


def test_names_no_longer_needed_say_what_took_their_place(tmp_path):
    result = read(tmp_path, MATRIX_ROOM_ID="x", JWT_SECRET="y")
    assert codes(result) == ["switchboard.I001", "switchboard.I001"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "eighty"),
        ("SYNC_INTERVAL", "1"),
        ("DEBUG", "perhaps"),
        ("LETTA_BASE_URL", "letta:8283"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_values_that_cannot_be_used(tmp_path, name, value):
    result = read(tmp_path, **{name: value})
    assert codes(result) == ["switchboard.E001"]
    assert name in result.problems[0].sentence
    default = next(option.default for option in OPTIONS if option.name == name)
    assert result[name] == default


def test_a_secret_that_cannot_be_used_is_not_shown(tmp_path):
    result = read_environment(
        [Option("PIN", "A number.", "int", 0, secret=True)], base_dir=tmp_path, environment={"PIN": "hunter2-x"}
    )
    assert codes(result) == ["switchboard.E001"]
    assert "hunter2" not in result.problems[0].sentence


def test_lists_and_paths(tmp_path):
    result = read(tmp_path, MATRIX_INVITE="@a:x, @b:x,,", DATA_DIR=str(tmp_path / "elsewhere"))
    assert result["MATRIX_INVITE"] == ["@a:x", "@b:x"]
    assert result["DATA_DIR"] == tmp_path / "elsewhere"


def test_every_option_is_described_once():
    names = [name for option in OPTIONS for name in (option.name, *option.aliases)]
    assert len(names) == len(set(names))
    assert OPTIONS[0].name == "DATA_DIR"
    assert all(option.help.endswith((".", ")")) for option in OPTIONS)


def test_problems_become_system_checks(settings, tmp_path):
    from django.core.checks import run_checks

    settings.ENVIRONMENT = read(tmp_path, LETTA_TOKEN="changeme", PORT="eighty")
    found = {message.id for message in run_checks(tags=["switchboard"])}
    assert {"switchboard.W001", "switchboard.E001"} <= found


def test_a_key_that_is_none_is_an_error(settings):
    from django.core.checks import run_checks

    settings.FIELD_ENCRYPTION_KEYS = ["short"]
    settings.MATRIX_USER_PREFIX = "Agent "
    settings.MATRIX_INVITE = ["alice"]
    found = {message.id for message in run_checks(tags=["switchboard"])}
    assert {"switchboard.E004", "switchboard.E005", "switchboard.E006"} <= found
