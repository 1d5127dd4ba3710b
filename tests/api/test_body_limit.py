"""Bodies that are too large end before they are kept."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from controlplane.body_limit import BACKUPS, UPLOADS, BodyLimit, largest
from ops.services.tokens import token_create


def call(
    path: str, chunks: list[bytes], length: int | None = None, *, token: str = ""
) -> tuple[list[dict[str, Any]], list[bytes]]:
    """What was answered, and what the application behind was given."""
    sent: list[dict[str, Any]] = []
    given: list[bytes] = []
    waiting = list(chunks)

    async def receive() -> dict[str, Any]:
        body = waiting.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(waiting)}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            given.append(message["body"])
            if not message["more_body"]:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"ok"})
                return

    headers = [] if length is None else [(b"content-length", str(length).encode())]
    if token:
        headers.append((b"authorization", f"Bearer {token}".encode()))
    scope = {"type": "http", "method": "PUT", "path": path, "headers": headers}
    asyncio.run(BodyLimit(application)(scope, receive, send))
    return sent, given


@pytest.fixture(autouse=True)
def _small(settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    settings.ATTACHMENT_MAX_MB = 1


def test_what_fits_passes():
    sent, given = call("/x", [b"a" * 60, b"b" * 40], length=100)
    assert sent[0]["status"] == 200
    assert b"".join(given) == b"a" * 60 + b"b" * 40


def test_what_says_that_it_is_too_large_is_not_read():
    sent, given = call("/x", [b"a" * 101], length=101)
    assert [message.get("status") for message in sent] == [413, None]
    assert b"request.too_large" in sent[1]["body"]
    assert given == []


def test_what_turns_out_to_be_too_large_ends():
    sent, given = call("/x", [b"a" * 60, b"b" * 60, b"c" * 60])
    assert [message.get("status") for message in sent] == [413, None]
    assert given == [b"a" * 60]


def test_files_may_be_as_large_as_the_setting_says():
    assert largest(UPLOADS) > 1024 * 1024 > largest("/api/v1/chat/conversations")
    sent, _ = call(UPLOADS, [b"a" * 1024 * 1024], length=1024 * 1024)
    assert sent[0]["status"] == 200


def test_a_backup_of_any_size_comes_in_with_an_operator_only(transactional_db, write_token, operator):
    large = [b"a" * 200]
    for path in BACKUPS:
        for token in ("", "swb_wrong"):
            sent, given = call(path, list(large), length=200, token=token)
            assert [message.get("status") for message in sent] == [413, None]
            assert given == []
    reading = token_create(owner=operator, name="look", scope="read", actor="test")[1]
    assert call(BACKUPS[0], list(large), length=200, token=reading)[1] == []
    sent, given = call(BACKUPS[0], list(large), length=200, token=write_token)
    assert sent[0]["status"] == 200
    assert given == large
    # Elsewhere the same operator has the same limit as everybody.
    assert call("/api/v1/agents", list(large), length=200, token=write_token)[1] == []


def test_a_backup_for_which_there_is_no_room_is_not_begun(transactional_db, write_token, monkeypatch):
    monkeypatch.setattr("controlplane.body_limit.room", lambda: 150)
    sent, given = call(BACKUPS[0], [b"a" * 200], length=200, token=write_token)
    assert sent[0]["status"] == 413
    assert given == []
