"""Files that come with a message, as each kind of server is given them."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from agents.backends.anthropic import AnthropicBackend
from agents.backends.base import AttachedFile, HistoryItem, ServiceSpec, Traits
from agents.backends.demo import DemoBackend
from agents.backends.files import IMAGE_BYTES, TEXT_CHARACTERS, given, takes
from agents.backends.letta import LettaBackend
from agents.backends.letta.encode import input_of
from agents.backends.openai import OpenAIBackend

from .asking import ask, request, text_of
from .server import ScriptedServer

PNG = b"\x89PNG not really"
DATA = base64.b64encode(PNG).decode()


def file(name: str, media_type: str, content: bytes, size: int = 0) -> AttachedFile:
    return AttachedFile(name, media_type, size or len(content), lambda: content)


PICTURE = file("cat.png", "image/png", PNG)
PAPER = file("paper.pdf", "application/pdf", b"%PDF")
NOTES = file("notes.txt", "text/plain", "\ufeffMilk,\neggs\n".encode())
SHEET = file("sums.xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", b"PK")
ALL = (PICTURE, PAPER, NOTES, SHEET)


def openai_body(server: ScriptedServer, asked: Any, **options: Any) -> dict[str, Any]:
    return OpenAIBackend(ServiceSpec("o", "openai", server.url, {}, options))._body(asked)


def test_openai_gets_pictures_as_data_uris_and_texts_as_text(server: ScriptedServer) -> None:
    body = openai_body(server, request("Look", attachments=ALL))
    text, picture = body["messages"][-1]["content"]
    assert picture == {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DATA}"}}
    assert "Look\n\n[The file “cat.png” (image/png, 15 bytes)]" in text["text"]
    assert "<file>\nMilk,\neggs\n</file>" in text["text"]
    assert text["text"].count("its content cannot be passed on to you") == 2
    assert openai_body(server, request("Plain"))["messages"][-1]["content"] == "Plain"


def test_options_say_what_the_models_of_a_service_take(server: ScriptedServer) -> None:
    blind = openai_body(server, request("Look", attachments=(PICTURE,)), images=False)["messages"][-1]["content"]
    assert "cat.png" in blind
    assert "cannot be passed on" in blind
    content = openai_body(server, request("Read", attachments=(PAPER,)), files=True)["messages"][-1]["content"]
    assert content[1]["file"] == {"filename": "paper.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}


def test_openai_sees_pictures_of_earlier_messages_again(server: ScriptedServer) -> None:
    earlier = HistoryItem("user", "", "Bo", (PICTURE,))
    body = openai_body(server, request("And now?", history=(earlier, HistoryItem("assistant", "A cat."))))
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][0]["content"][1]["type"] == "image_url"


def test_anthropic_gets_blocks_before_the_text(server: ScriptedServer) -> None:
    agents = {"agents": [{"id": "agent-1"}]}
    backend = AnthropicBackend(ServiceSpec("a", "anthropic", server.url, {}, agents))
    history = (HistoryItem("user", "First", "Bo"), HistoryItem("user", "Second", "Bo", (PICTURE,)))
    (message,) = backend._body(request("Third", attachments=(PAPER, NOTES), history=history))["messages"]
    kinds = [block["type"] for block in message["content"]]
    assert kinds == ["text", "image", "text", "document", "text"]
    assert message["content"][1]["source"] == {"type": "base64", "media_type": "image/png", "data": DATA}
    assert message["content"][3]["source"]["media_type"] == "application/pdf"
    assert "Milk," in message["content"][4]["text"]


def test_letta_gets_pictures_and_is_told_of_what_it_cannot_take() -> None:
    (message,) = input_of(request("Look", attachments=ALL), LettaBackend.traits, {})
    text, picture = message["content"]
    assert picture == {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}}
    assert text["text"].startswith("Bo: Look")
    assert "paper.pdf” (application/pdf, 4 bytes) came with this message; its content cannot" in text["text"]


def test_demo_agents_describe_what_they_were_given() -> None:
    demo = DemoBackend(ServiceSpec("d", "demo", "", {}, {"speed": 0}))
    said = text_of(ask(demo, request("Look", agent="demo-echo", attachments=(PICTURE, NOTES))))
    assert "I was given *cat.png* (image/png, 15 bytes)." in said
    assert "2 words" in said
    assert said.endswith("Look")


@pytest.mark.parametrize(
    ("media_type", "size", "taken"),
    [
        ("image/png", 10, True),
        ("image/png", IMAGE_BYTES + 1, False),
        ("image/svg+xml", 10, False),
        ("application/pdf", 10, False),
        ("text/plain", 10**8, True),
        ("application/json", 10, True),
        ("application/zip", 10, False),
    ],
)
def test_what_is_taken(media_type: str, size: int, taken: bool) -> None:
    assert takes(Traits(takes_images=True), {}, media_type, size) is taken


def test_long_texts_are_cut_and_lost_contents_said() -> None:
    long = given("", [file("a.txt", "text/plain", b"x" * (TEXT_CHARACTERS + 5))], Traits(), {})
    assert f"[cut after {TEXT_CHARACTERS:,} of {TEXT_CHARACTERS + 5:,} characters]" in long.text

    def gone() -> bytes:
        raise FileNotFoundError

    lost = given("Look", [AttachedFile("b.png", "image/png", 3, gone)], Traits(takes_images=True), {})
    assert (lost.images, "is not there any more" in lost.text) == ([], True)
