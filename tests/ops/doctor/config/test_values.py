"""Reading, masking and changing values, without any check."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ops.configuration import edit, envfile
from ops.configuration.masks import mask, shown
from ops.configuration.placeholders import why_placeholder
from ops.configuration.schema import configuration
from ops.configuration.trying import try_value
from tests.peers.base import PROJECT_ROOT
from tests.up.running import clean_environment


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("sk-abcd-1234567890-cdef", "sk-a****cdef"),
        ("short-secret", "****"),
        ("", ""),
        ("postgres://ada:hunter2@db:5432/x?sslkey=1", "postgres://ada:****@db:5432/x?…"),
        (["first-key-that-is-long", "x"], "firs****long, ****"),
    ],
)
def test_secrets_are_masked(value, seen):
    assert mask(value) == seen


def test_passwords_go_from_addresses_that_are_no_secret():
    assert shown("http://u:pw@host/x") == "http://u:****@host/x"
    assert shown(True) == "true"


@pytest.mark.parametrize(
    "value",
    [
        "changeme", "change_me_please", "sk-xxxxxxxx", "your-token-here", "<token>", "devkey", "secret", "...",
        "postgres://user:pass@host:5432/dbname", "postgres://letta:letta@localhost:5432/letta", "https://example.com",
        "https://switchboard.example.org/x", "postgres://ada:changeme@db/x", "redis://HOST:6379", "@you:example.org",
        "http://your-domain.com", ["real", "changeme"],
    ],
)  # fmt: skip
def test_examples_are_recognised(value):
    assert why_placeholder(value)


@pytest.mark.parametrize(
    "value",
    [
        "", "sk-ant-api03-Zk3", "http://127.0.0.1:8283", "https://api.openai.com/v1", "postgres://ada:Kx9@db.lan/agents",
        "http://host.docker.internal:8283", "switchboard", "agent_", "@bob:hs.test", 5, True, None, [], "Letta Agents",
        "https://counterexample.com", "claude-sonnet-4-20250514",
    ],
)  # fmt: skip
def test_real_values_are_left_alone(value):
    assert not why_placeholder(value)


class TestFile:
    def test_one_line_changes_and_the_rest_stays(self, tmp_path):
        path = tmp_path / "x.env"
        path.write_text("# ours\nexport A=1\n\nB = 'two words'\nA=2\n")
        path.chmod(0o640)
        envfile.write(path, "A", "with space")
        assert path.read_text() == "# ours\nexport A=1\n\nB = 'two words'\nA='with space'\n"
        assert path.stat().st_mode & 0o777 == 0o640
        assert envfile.line_of(path, "A") == (5, "A='with space'")
        envfile.write(path, "A", None)
        envfile.write(path, "B", "3", new_name="C")
        assert path.read_text() == "# ours\n\nC=3\n"

    def test_a_new_file_is_the_owners_and_an_old_one_is_never_half(self, tmp_path):
        path = tmp_path / "new.env"
        envfile.write(path, "A", "1")
        assert path.stat().st_mode & 0o777 == 0o600
        assert [one.name for one in tmp_path.iterdir()] == ["new.env"]

    @pytest.mark.parametrize("value", ["plain", "two words", "it's", 'say "hi"', "a#b", "back\\slash 'x'", "$HOME"])
    def test_what_is_written_is_what_is_read(self, tmp_path, value):
        from controlplane.env import dotenv_values

        path = tmp_path / "x.env"
        envfile.write(path, "A", value)
        assert dotenv_values(path)["A"] == value
        assert envfile.value_of(envfile.line_of(path, "A")[1]) == value

    def test_a_line_break_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="one line"):
            envfile.write(tmp_path / "x.env", "A", "1\nB=2")


class TestEdit:
    def test_the_file_is_changed_and_brought_back(self, env_path):
        env_path.write_text("MAX_HOPS=3\n")
        memory = edit.change("MAX_HOPS", "5")
        assert env_path.read_text() == "MAX_HOPS=5\n"
        reading = configuration().read()
        assert (reading.values["MAX_HOPS"], reading.places["MAX_HOPS"]) == (5, "file")
        assert configuration().running().values["MAX_HOPS"] == 3
        edit.restore(memory)
        assert env_path.read_text() == "MAX_HOPS=3\n"

    def test_nobody_elses_change_is_taken_back(self, env_path):
        memory = edit.change("MAX_HOPS", "5")
        env_path.write_text("MAX_HOPS=9\n")
        with pytest.raises(edit.CannotEdit, match="changed by somebody"):
            edit.restore(memory)

    def test_the_environments_values_come_with_their_line_and_secrets_stay_hidden(self, env_path, monkeypatch):
        monkeypatch.setenv("LETTA_TOKEN", "old")
        reason = edit.why_not("LETTA_TOKEN", "a-new-and-very-secret-one")
        assert "is set in the environment of the process" in reason
        assert "LETTA_TOKEN='a-ne****-one'" in reason
        assert "very-secret" not in reason
        with pytest.raises(edit.CannotEdit):
            edit.change("LETTA_TOKEN", "x")

    def test_keys_that_guard_the_data_are_not_changed_from_here(self, env_path):
        assert "not changed from here" in edit.why_not("FIELD_ENCRYPTION_KEYS", "x")

    def test_a_secrets_file_is_named(self, env_path, tmp_path, monkeypatch):
        (tmp_path / "token").write_text("s3")
        monkeypatch.setenv("LETTA_TOKEN_FILE", str(tmp_path / "token"))
        assert str(tmp_path / "token") in edit.why_not("LETTA_TOKEN", "x")


_AGAIN = """
import os, pathlib, sys
from controlplane.env import read_environment
from controlplane.options import OPTIONS
found = read_environment(OPTIONS, base_dir=pathlib.Path("."))
print(found["MAX_HOPS"], found.places["MAX_HOPS"], found["TURN_ATTEMPTS"], found.places["TURN_ATTEMPTS"], flush=True)
if len(sys.argv) < 2:
    pathlib.Path(os.environ["SWITCHBOARD_ENV_FILE"]).write_text("")
    os.environ["TURN_ATTEMPTS"] = "9"
    os.execv(sys.executable, [sys.executable, "-c", sys.orig_argv[2], "again"])
"""


def test_a_process_that_replaces_itself_reads_the_file_anew(tmp_path):
    """What it had from the file is not taken for its environment; what was set in its environment since is."""
    path = tmp_path / "x.env"
    path.write_text("MAX_HOPS=7\nTURN_ATTEMPTS=5\n")
    given = clean_environment(DATA_DIR=str(tmp_path), SWITCHBOARD_ENV_FILE=str(path))
    done = subprocess.run(
        [sys.executable, "-c", _AGAIN], cwd=PROJECT_ROOT, env=given, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["7 file 5 file", "3 default 9 environment"]


class TestTrying:
    def test_an_address_that_answers_and_one_that_does_not(self):
        from tests.ops.doctor.network.wires import closed_port, say, web

        with web(lambda handler: say(handler, 200)) as port:
            assert try_value("LETTA_BASE_URL", f"http://127.0.0.1:{port}").ok
        tried = try_value("LETTA_BASE_URL", f"http://127.0.0.1:{closed_port()}")
        assert tried.ok is False
        assert "refuses" in tried.sentence
        assert try_value("PORT", 1).ok is None

    def test_postgresql_is_signed_in_to(self, postgres):
        url = postgres.url("postgres")
        assert try_value("DATABASE_URL", url).ok
        wrong = try_value("DATABASE_URL", f"postgres://nobody:hunter22@{url.rpartition('@')[2]}x")
        assert wrong.ok is False
        assert "hunter22" not in wrong.sentence

    def test_redis_is_asked(self, redis_server):
        assert try_value("REDIS_URL", redis_server.url).ok
