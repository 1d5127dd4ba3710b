"""Addresses that open something by themselves are in no log line."""

from __future__ import annotations

import pytest

from ops import redaction
from ops.redaction import redact_text


def test_the_token_of_a_shared_conversation_is_hidden():
    line = "GET /shared/Zm9vYmFyYmF6cXV4cXV1eA_-12345 200"
    assert redact_text(line) == "GET /shared/[hidden] 200"
    assert redact_text("GET /shared/ 404") == "GET /shared/ 404"


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """As in a process that has read the passwords of many accounts."""
    monkeypatch.setattr(redaction, "_secrets", ())
    words = [f"pass-{number:05d}-word" for number in range(1_500)]
    for word in [*words, "pass-00001-word-and-more", "abcdef123", "123xyz789"]:
        redaction.add_secret(word)
    return words


def test_of_many_secrets_every_one_is_hidden(many: list[str]) -> None:
    assert redact_text(f"a {many[0]} b {many[1_499]}") == "a [hidden] b [hidden]"
    assert redaction.hide_known("nothing of pass-1 and pass-00001") == "nothing of pass-1 and pass-00001"
    # The longer one goes whole, and of two that overlap nothing stays.
    assert redaction.hide_known("pass-00001-word-and-more, pass-00001-word") == "[hidden], [hidden]"
    assert redaction.hide_known("<abcdef123xyz789>") == "<[hidden]>"
    assert redaction.hide_known(many[5] + many[6]) == "[hidden][hidden]"
    assert redaction.holds_secret(f"x{many[7]}")
    assert not redaction.holds_secret("x")


def test_a_secret_that_is_known_is_not_added_twice_and_one_that_is_forgotten_is_shown(many: list[str]) -> None:
    before = redaction._secrets
    redaction.add_secret(many[3])
    assert redaction._secrets is before
    redaction.forget_secret(many[3])
    assert redaction.hide_known(many[3]) == many[3]
    redaction.add_secret(many[3])
    assert redaction.hide_known(many[3]) == "[hidden]"
    assert sorted(redaction._secrets, key=len, reverse=True) == list(redaction._secrets)
