"""Files between rooms and the portal: fetched for the agent, shown in the room, and honest words where that fails."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from agents.matrix.crypto import files
from chat.models import Attachment, Conversation, Delivery, Message, Role, Turn
from chat.services.attachments import attachment_store
from chat.services.branches import plant
from chat.services.conversations import conversation_of
from tests.chat.portal_helpers import person, say
from tests.support.stage import ALICE, Stage

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _folder(settings: Any, tmp_path: Path) -> None:
    settings.ATTACHMENTS_DIR = tmp_path / "attachments"


def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 3), "red").save(out, "PNG")
    return out.getvalue()


def sends(stage: Stage, content: bytes, name: str = "cat.png", **fields: Any) -> None:
    """Alice sends a file in Ada's room."""
    ada = stage.agent()
    stage.enters(ada)
    url = "mxc://example.org/cat1"
    stage.fake.media[url] = content
    body = fields.pop("body", name)
    stage.says(
        ada, body, **{"msgtype": "m.image", "filename": name, "url": url, "info": {"size": len(content)}, **fields}
    )


def test_a_picture_from_a_room_reaches_the_agent(stage: Stage) -> None:
    person("alice", matrix_user_id=ALICE)
    sends(stage, png())
    message = Message.objects.get()
    assert message.text == f"[image “cat.png” (unknown type, {len(png())} bytes)]"
    assert not Attachment.objects.exists()
    stage.drain()
    (given,) = stage.world.requests[0].attachments
    assert (given.name, given.media_type, given.read()[:4]) == ("cat.png", "image/png", b"\x89PNG")
    kept = Attachment.objects.get()
    assert (kept.message, kept.owner, kept.conversation_id) == (message, person("alice"), message.conversation_id)
    message.refresh_from_db()
    assert [part["type"] for part in message.parts] == ["attachments"]
    # A scripted server takes no pictures, and its people are told so.
    assert "cannot look into “cat.png”" in Message.objects.get(role=Role.NOTICE).text


def test_a_caption_stays_the_text(stage: Stage) -> None:
    sends(stage, png(), body="My cat", mimetype="x")
    stage.drain()
    assert stage.world.requests[0].text.startswith("My cat\n[image “cat.png”")


@pytest.mark.parametrize(
    ("content", "fields", "why"),
    [
        (png(), {"info": {"size": 10**9}}, "larger than 20 MB"),
        (b"\x00\x01\x02", {}, "Files of this kind are not taken"),
        (None, {}, "No such file"),
    ],
    ids=["too large", "strange", "gone"],
)
def test_a_file_that_cannot_be_had_is_said_to_agent_and_room(
    stage: Stage, content: bytes | None, fields: dict[str, Any], why: str
) -> None:
    sends(stage, content or b"", **fields)
    if content is None:
        stage.fake.media.clear()
    stage.drain()
    asked = stage.world.requests[0]
    assert asked.attachments == []
    assert "[Its content cannot be passed on to you:" in asked.text
    assert why in asked.text
    notice = Message.objects.get(role=Role.NOTICE).text
    assert notice.startswith("Ada could not be given “cat.png”")
    assert why in notice
    assert not Attachment.objects.exists()


def test_a_file_larger_than_it_was_said_to_be_is_not_read_to_its_end(stage: Stage, settings: Any) -> None:
    settings.ATTACHMENT_MAX_MB = 0.001
    sends(stage, b"x" * 5000, info={"size": 10})
    stage.drain()
    assert "larger than 1,048 bytes" in stage.world.requests[0].text


def test_a_second_attempt_fetches_nothing_again(stage: Stage) -> None:
    from agents.backends.errors import BackendUnavailable

    stage.world.script(BackendUnavailable("503"))
    sends(stage, png())
    stage.run_turns()
    stage.hurry()
    stage.drain()
    assert len(stage.fake.calls("download")) == 1
    assert [len(one.attachments) for one in stage.world.requests] == [1, 1]


def test_an_encrypted_file_is_opened_with_the_key_that_came_with_it(stage: Stage) -> None:
    hidden, how = files.sealed(png())
    sends(stage, hidden, file={"url": "mxc://example.org/cat1", **how})
    message = Message.objects.get()
    # As long as it waits here its key is sealed.
    assert how["key"]["k"] not in str(message.parts)
    assert "cannot be passed on" not in message.text
    stage.drain()
    (given,) = stage.world.requests[0].attachments
    assert given.read() == png()
    message.refresh_from_db()
    assert "sealed" not in str(message.parts)


def test_an_encrypted_file_that_was_changed_on_the_way_is_not_passed_on(stage: Stage) -> None:
    hidden, how = files.sealed(png())
    sends(stage, hidden[:-1] + b"x", file={"url": "mxc://example.org/cat1", **how})
    stage.drain()
    assert "cannot be decrypted" in stage.world.requests[0].text
    assert not Attachment.objects.exists()
    assert "sealed" not in str(Message.objects.filter(role=Role.USER).get().parts)


def test_an_encrypted_file_without_its_key_is_named_only(stage: Stage) -> None:
    sends(stage, b"", file={"url": "mxc://example.org/sealed", "key": {}})
    stage.drain()
    assert "it is encrypted, its content cannot be passed on" in stage.world.requests[0].text
    assert not stage.fake.calls("download")


def opened(stage: Stage) -> Conversation:
    """Ada's room, opened in the portal."""
    ada = stage.agent()
    stage.enters(ada)
    talk = conversation_of(stage.room(), ada)
    plant(talk)
    Conversation.objects.filter(pk=talk.pk).update(agent=ada)
    return talk


def upload(content: bytes, name: str) -> str:
    return str(attachment_store(person=person(), file=io.BytesIO(content), name=name, actor="test").pk)


def test_a_file_from_the_portal_is_shown_in_the_room_once(stage: Stage) -> None:
    talk = opened(stage)
    sent = say(talk, "Look", attachments=[upload(png(), "cat.png"), upload(b"Milk", "notes.txt")])
    stage.run_deliveries()
    room = str(stage.room().room_id)
    events = [event["content"] for event in stage.fake.messages_of(room)]
    shown = [one for one in events if one["msgtype"] in {"m.image", "m.file"}]
    assert [(one["msgtype"], one["body"]) for one in shown] == [("m.image", "cat.png"), ("m.file", "notes.txt")]
    assert shown[0]["info"] == {"mimetype": "image/png", "size": sent.message.attachments.first().size, "w": 4, "h": 3}
    assert stage.fake.media[shown[1]["url"]] == b"Milk"
    assert events.index(shown[0]) > next(number for number, one in enumerate(events) if "Look" in one["body"])
    # The same delivery once more, as after a crash before its last write, shows nothing twice.
    count = len(stage.fake.messages_of(room))
    Delivery.objects.filter(message=sent.message).update(state="queued", shown=[])
    stage.run_deliveries()
    assert len(stage.fake.messages_of(room)) == count
    # And what comes back from the room is known to be ours.
    stage.receive(*stage.fake.messages_of(room))
    assert Message.objects.filter(role=Role.USER).count() == 1
    assert Turn.objects.count() == 1


def test_a_message_of_files_alone_says_whose_they_are(stage: Stage) -> None:
    talk = opened(stage)
    say(talk, "", attachments=[upload(b"Milk", "notes.txt")])
    stage.run_deliveries()
    assert stage.fake.messages_of(str(stage.room().room_id))[-2]["content"]["body"] == "**Grace** sends:"
