"""A stop ends the work of the server as well: its connection is closed while it is still speaking, or not speaking yet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agents.backends.anthropic import AnthropicBackend
from agents.backends.base import Backend, ServiceSpec
from agents.backends.chunks import Finished, TextDelta
from agents.backends.openai import OpenAIBackend

from .asking import request
from .server import Asked, ScriptedServer

# Each word comes after 50 ms: all of them would take half a minute.
WORDS = 600


class Speech:
    """What a server says, word by word; ``ended`` is set when it was let speak no more."""

    def __init__(self, word: Callable[[int], dict[str, Any]], first: list[dict[str, Any]], silent: bool) -> None:
        self.word, self.first, self.silent = word, first, silent
        self.said = 0
        self.ended = threading.Event()

    def to(self, asked: Asked) -> None:
        try:
            asked.stream_from(self._parts())
        finally:
            self.ended.set()

    def _parts(self) -> Iterator[Any]:
        yield from self.first
        for number in range(WORDS):
            # A comment: the connection is used, and nothing is said.
            yield ": wait\n\n" if self.silent else self.word(number)
            self.said += 1
            yield 0.05


def openai(server: ScriptedServer, silent: bool) -> tuple[Backend, Speech]:
    speech = Speech(lambda n: {"choices": [{"index": 0, "delta": {"content": f"w{n} "}}]}, [], silent)
    server.on("POST", "/v1/chat/completions", lambda asked: speech.to(asked))
    return OpenAIBackend(ServiceSpec("o", "openai", server.url)), speech


def anthropic(server: ScriptedServer, silent: bool) -> tuple[Backend, Speech]:
    first = [{"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 12, "output_tokens": 1}}}]
    delta = {"type": "content_block_delta", "index": 0}
    speech = Speech(lambda n: {**delta, "delta": {"type": "text_delta", "text": f"w{n} "}}, first, silent)
    server.on("POST", "/v1/messages", lambda asked: speech.to(asked))
    agents = {"agents": [{"id": "agent-1"}]}
    return AnthropicBackend(ServiceSpec("a", "anthropic", server.url, {}, agents)), speech


@pytest.mark.parametrize("silent", [False, True], ids=["speaking", "silent"])
@pytest.mark.parametrize("make", [openai, anthropic])
def test_the_connection_is_closed_while_the_server_is_at_work(
    server: ScriptedServer, make: Callable[[ScriptedServer, bool], tuple[Backend, Speech]], silent: bool
) -> None:
    backend, speech = make(server, silent)
    asked_to_stop = threading.Event()
    chunks = []
    threading.Timer(0.5, asked_to_stop.set).start()
    for chunk in backend.stream_reply(request(), should_stop=asked_to_stop.is_set):
        chunks.append(chunk)
    assert isinstance(chunks[-1], Finished)
    assert chunks[-1].reason == "cancelled"
    assert speech.ended.wait(20), "the server goes on speaking to nobody"
    assert speech.said < WORDS / 2
    assert any(isinstance(chunk, TextDelta) for chunk in chunks) is not silent
    if make is anthropic:
        assert chunks[-1].input_tokens == 12
