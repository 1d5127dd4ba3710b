"""Addresses that open something by themselves are in no log line."""

from __future__ import annotations

from ops.redaction import redact_text


def test_the_token_of_a_shared_conversation_is_hidden():
    line = "GET /shared/Zm9vYmFyYmF6cXV4cXV1eA_-12345 200"
    assert redact_text(line) == "GET /shared/[hidden] 200"
    assert redact_text("GET /shared/ 404") == "GET /shared/ 404"
