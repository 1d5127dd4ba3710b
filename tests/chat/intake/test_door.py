"""The homeserver's own door: the same answers as through Django, and everything else passed on."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from chat.matrix import views
from chat.matrix.door import AppserviceDoor
from chat.models import Message
from tests.chat.intake.helpers import event
from tests.support.fake_homeserver import HS_TOKEN
from tests.support.stage import Stage

# The intake has threads, and so database connections, of its own.
pytestmark = pytest.mark.django_db(transaction=True)

PASSED_ON = "passed on"


def call(
    path: str,
    body: bytes,
    *,
    token: str = HS_TOKEN,
    method: str = "PUT",
    query: bytes = b"",
    length: int | None = None,
    chunks: int = 1,
    hang_up: bool = False,
) -> Any:
    """Status and JSON of the answer; ``PASSED_ON`` when the request went on to Django; ``None`` without an answer."""
    sent: list[dict[str, Any]] = []

    async def django(scope: Any, receive: Any, send: Any) -> None:
        sent.append({"type": PASSED_ON})

    size = max(1, len(body) // chunks)
    pieces = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
    inbox = [
        {"type": "http.request", "body": piece, "more_body": number + 1 < len(pieces)}
        for number, piece in enumerate(pieces)
    ]
    if hang_up:
        inbox = [{"type": "http.disconnect"}]

    async def receive() -> Any:
        return inbox.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"content-length", str(len(body) if length is None else length).encode())]
    if token:
        headers.append((b"authorization", f"Bearer {token}".encode()))
    scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": headers}
    asyncio.run(AppserviceDoor(django)(scope, receive, send))
    if not sent:
        return None
    if sent[0]["type"] == PASSED_ON:
        return PASSED_ON
    return sent[0]["status"], json.loads(sent[1]["body"])


def transaction(house: Stage, *texts: str) -> bytes:
    return json.dumps({"events": [event(house, text) for text in texts]}).encode()


PATH = "/_matrix/app/v1/transactions/1"


def test_a_transaction_is_taken_in(house: Stage) -> None:
    assert call(PATH, transaction(house, "One", "Two"), chunks=3) == (200, {})
    assert list(Message.objects.order_by("seq").values_list("text", flat=True)) == ["One", "Two"]


def test_old_homeservers_are_understood(house: Stage) -> None:
    body = transaction(house, "One")
    assert call("/transactions/1", body, token="", query=f"access_token={HS_TOKEN}".encode()) == (200, {})
    assert Message.objects.count() == 1


@pytest.mark.parametrize(("token", "status", "errcode"), [("", 401, "M_MISSING_TOKEN"), ("wrong", 403, "M_FORBIDDEN")])
def test_only_the_homeserver_may(house: Stage, token: str, status: int, errcode: str) -> None:
    answer = call(PATH, transaction(house, "One"), token=token)
    assert (answer[0], answer[1]["errcode"]) == (status, errcode)
    assert not Message.objects.exists()


def test_what_is_no_transaction_is_said(house: Stage) -> None:
    assert call(PATH, b"{")[1]["errcode"] == "M_NOT_JSON"
    assert call(PATH, b"[]")[1]["errcode"] == "M_BAD_JSON"


def test_a_homeserver_that_hangs_up_gets_no_answer(house: Stage) -> None:
    assert call(PATH, transaction(house, "One"), hang_up=True) is None
    assert not Message.objects.exists()


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/admin/", {}),
        (PATH, {"method": "GET"}),
        (PATH, {"length": views.MAX_BODY + 1}),
        ("/_matrix/app/v1/transactions/1/2", {}),
        ("/_matrix/app/v1/users/@a:b", {}),
    ],
)
def test_everything_else_goes_through_django(house: Stage, path: str, options: dict[str, Any]) -> None:
    assert call(path, b"{}", **options) == PASSED_ON
