"""The registration: what homeservers read, and what we read back."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from agents.matrix.registration import Registration, RegistrationError, generate_token, load

BASE = Registration(
    "switchboard", "http://127.0.0.1:8000", "as-tok", "hs-tok", "switchboard", "ex-a.org:8448", "agent_"
)


def test_written_file() -> None:
    data = yaml.safe_load(BASE.to_yaml())
    assert data["rate_limited"] is False
    assert data["receive_ephemeral"] is False
    assert data["namespaces"]["rooms"] == []
    user, alias = data["namespaces"]["users"][0], data["namespaces"]["aliases"][0]
    assert user["exclusive"] is alias["exclusive"] is True
    assert re.fullmatch(user["regex"], "@agent_7659:ex-a.org:8448")
    assert re.fullmatch(alias["regex"], "#agent_7659:ex-a.org:8448")
    for other in (
        "@agent_7659:ex-aXorg:8448",
        "@agentX7659:ex-a.org:8448",
        "#agent_1:ex-a.org:8448",
        "@bob:ex-a.org:8448",
    ):
        assert not re.fullmatch(user["regex"], other)


@pytest.mark.parametrize("prefix", ["agent_", "_sb.x-", "a+b/c=", "", "(x)*"])
@pytest.mark.parametrize("server", ["ex-a.org", "localhost:8448", "[::1]:8448", "xn--e1a.example"])
def test_round_trip(prefix: str, server: str) -> None:
    registration = replace(BASE, user_prefix=prefix, server_name=server)
    assert re.fullmatch(registration.user_regex, f"@{prefix}x:{server}")
    again = Registration.parse(registration.to_yaml())
    assert again == registration
    assert registration.diff(again) == []


def test_diff_shows_no_token() -> None:
    found = BASE.diff(replace(BASE, as_token="other-token", url="http://else", user_prefix="x_"))
    assert len(found) == 3
    assert "http://else" in " ".join(found)
    assert "other-token" not in " ".join(found)
    assert "as-tok" not in " ".join(found)


def test_tokens_stay_out_of_repr() -> None:
    assert "as-tok" not in repr(BASE)
    assert "hs-tok" not in repr(BASE)
    assert len({generate_token() for _ in range(20)}) == 20
    assert len(generate_token()) == 43


def test_tuwunel_command_is_one_code_block() -> None:
    lines = BASE.tuwunel_command().split("\n")
    assert lines[0] == "!admin appservices register"
    assert lines[1] == "```yaml"
    assert lines[-1] == "```"
    assert yaml.safe_load("\n".join(lines[2:-1]))["id"] == "switchboard"


def test_other_peoples_files(tmp_path: Path) -> None:
    path = tmp_path / "reg.yaml"
    path.write_text(
        "id: x\nurl: null\nas_token: a\nhs_token: b\nsender_localpart: s\n"
        "namespaces:\n  users:\n  - {exclusive: true, regex: '@agent_[A-Za-z0-9_]+:example\\.org'}\n"
    )
    read = load(path)
    assert (read.user_prefix, read.server_name, read.url, read.rate_limited) == ("agent_", "example.org", "", True)
    path.write_text(path.read_text().replace("example\\.org", ".*"))
    assert load(path).server_name == ""


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a: [", "YAML"),
        ("- 1", "mapping"),
        ("", "mapping"),
        ("id: x", "as_token"),
        ("id: x\nas_token: a\nhs_token: 5\nsender_localpart: s", "hs_token"),
        ("id: x\nas_token: a\nhs_token: b\nsender_localpart: s\nurl: ftp://x", "url"),
        ("id: x\nas_token: a\nhs_token: b\nsender_localpart: s\nnamespaces: {users: [5, {regex: 3}]}", "namespace"),
    ],
)
def test_unusable_files_say_why(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "reg.yaml"
    path.write_text(text)
    with pytest.raises(RegistrationError, match=word) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(RegistrationError, match="No such file"):
        load(tmp_path / "none.yaml")
    (tmp_path / "bin").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RegistrationError, match="UTF-8"):
        load(tmp_path / "bin")
