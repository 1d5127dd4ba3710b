"""The schema, the documentation and what is really sent and taken say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from django.test import Client as Browser
from jsonschema import Draft202012Validator

from chat.socket.protocol import COMMANDS, Close
from tests.chat.socket import client as own_client
from tests.chat.socket.client import SCHEMA
from tests.chat.socket.place import Person, Place

DOCS = (Path(__file__).resolve().parents[3] / "docs" / "socket.md").read_text("utf-8")
CLIENT, SERVER = SCHEMA["$defs"]["clientFrames"], SCHEMA["$defs"]["serverFrames"]


def test_it_is_a_schema_and_covers_both_directions() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    for side, frames in (("client", CLIENT), ("server", SERVER)):
        assert {ref["$ref"].rpartition("/")[2] for ref in SCHEMA["$defs"][side]["oneOf"]} == set(frames)


def test_commands_are_those_of_the_schema_field_by_field() -> None:
    assert set(COMMANDS) == set(CLIENT)
    for kind, fields in COMMANDS.items():
        assert set(fields) == set(CLIENT[kind]["properties"]) - {"type"}, kind
        needed = {name for name, field in fields.items() if field.needed}
        assert needed == set(CLIENT[kind]["required"]) - {"type"}, kind


def test_the_documentation_names_every_frame_and_code() -> None:
    halves = DOCS.partition("## Frames of the server")
    for text, frames in ((halves[0], CLIENT), (halves[2], SERVER)):
        listed = set(
            re.findall(
                r"`([a-z]+)`", " ".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `"))
            )
        )
        assert set(frames) <= listed
    for code in Close:
        assert f"| {int(code)} |" in DOCS
        assert int(code) in SERVER["bye"]["properties"]["code"]["enum"]


@pytest.mark.django_db
def test_everybody_may_read_it() -> None:
    answer = Browser().get("/ws/schema.json")
    assert answer.status_code == 200
    assert json.loads(answer.content) == SCHEMA


@pytest.mark.e2e
def test_every_frame_that_was_seen_is_described(embedded: Place, ada: Person) -> None:
    """The client holds every frame against the schema as it comes; here a conversation with most of them."""
    conversation = ada.conversation("Tinker")
    embedded.speed(40)
    client = ada.client(compact=True)
    client.subscribe(conversation, render=True)
    sent = client.do("send", conversation=conversation, client_id="a", text="6 * 7")
    client.until_over(sent["turn"])
    client.do("ping")
    client.refused("stop", turn=10**9)
    client.do("unsubscribe", conversation=conversation)
    assert {"welcome", "ok", "error", "subscribed", "message", "short", "part", "turn", "conversation", "pong"} <= own_client.SEEN["server"]  # fmt: skip
