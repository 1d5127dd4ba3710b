"""Files that people send with their messages reach the agent, and nobody is left in doubt where they do not."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from chat.models import Message, Role
from chat.services.attachments import attachment_store
from chat.turns import files
from tests.chat.portal_helpers import begin, person, say
from tests.support.stage import Stage

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _folder(settings: Any, tmp_path: Path) -> None:
    settings.ATTACHMENTS_DIR = tmp_path / "attachments"


def png(colour: str = "red") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(out, "PNG")
    return out.getvalue()


def upload(content: bytes, name: str) -> str:
    return str(attachment_store(person=person(), file=io.BytesIO(content), name=name, actor="test").pk)


def test_the_backend_is_given_the_files_and_reads_them_when_it_needs_them(stage: Stage) -> None:
    talk = begin(stage)
    say(talk, "Look", attachments=[upload(png(), "cat.png"), upload(b"Milk", "notes.txt")])
    stage.run_turns()
    given = stage.world.requests[-1].attachments
    assert [(one.name, one.media_type) for one in given] == [("cat.png", "image/png"), ("notes.txt", "text/plain")]
    assert given[1].read() == b"Milk"
    assert Image.open(io.BytesIO(given[0].read())).size == (4, 4)


def test_earlier_pictures_are_shown_again_and_other_files_named(stage: Stage, monkeypatch: Any) -> None:
    monkeypatch.setattr(files, "HISTORY_IMAGES", 2)
    talk = begin(stage)
    for colour in ("red", "green", "blue"):
        say(talk, colour, attachments=[upload(png(colour), f"{colour}.png")])
        stage.run_turns()
    say(talk, "List", attachments=[upload(b"Milk", "notes.txt")])
    stage.run_turns()
    say(talk, "Which?")
    stage.run_turns()
    said = [item for item in stage.world.requests[-1].history if item.role == "user"]
    assert [item.text for item in said] == [
        "red\n[file “red.png” (image/png)]",
        "green",
        "blue",
        "List\n[file “notes.txt” (text/plain)]",
    ]
    assert [[one.name for one in item.attachments] for item in said] == [[], ["green.png"], ["blue.png"], []]


def test_messages_without_files_cost_no_query_more(stage: Stage, django_assert_num_queries: Any) -> None:
    talk = begin(stage)
    message = say(talk, "Hello").message
    with django_assert_num_queries(0):
        assert files.files_of(message) == []


def test_the_person_is_told_what_the_agent_cannot_look_into(stage: Stage) -> None:
    talk = begin(stage)
    say(talk, "Look", attachments=[upload(png(), "cat.png"), upload(b"Milk", "notes.txt")])
    notice = Message.objects.get(role=Role.NOTICE)
    assert notice.text == "Ada cannot look into “cat.png”; it is told what came, and not what is in it."
    assert notice.parent == Message.objects.get(text="Look")
