"""What cannot be taken is rejected whole, mended and taken after all."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from chat.models import Attachment, Conversation, Membership, Message, Person
from tests.chat.portagent.conftest import Run
from tests.chat.portagent.fixtures import (
    T0,
    Portagent,
    agent_says,
    user_says,
)
from tests.chat.portagent.test_people import snapshot

pytestmark = pytest.mark.django_db


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_nothing_is_lost_of_what_is_rejected(old: Portagent, ada: str, tmp_path: Path) -> None:
    container = old.container(ada)
    broken = user_says("fine")
    old.conversation(
        1,
        container,
        [broken, {"role": "wizard", "id": "msg_x", "timestamp": T0}, "text", agent_says([{"type": "hologram"}])],
    )
    old.conversation(2, "user-gone", [user_says("whose?")])
    old.conversation(3, container, '[{"role": "user"')
    old.put("images:img_broken", "{not json")
    old.put("messages:sess_orphan", [user_says("alone")])
    rejects = tmp_path / "rejects.jsonl"
    run = Run(old.folder, rejects=rejects)
    assert sorted(run.codes()) == sorted(
        [
            *["portagent.message_broken"] * 3,
            "portagent.no_owner",
            "portagent.no_conversation",
            "portagent.broken_json",
            "portagent.broken_json",
            "portagent.no_conversation",
        ]
    )
    assert rejects.stat().st_mode & 0o777 == 0o600
    written = lines(rejects)
    assert len(written) == run.report.rejects == 8
    assert Message.objects.filter(role="user").count() == 1
    for text in ("wizard", "hologram", "whose?", '[{\\"role\\": \\"user\\"', "{not json", "alone"):
        assert any(text in json.dumps(line["row"]) for line in written), text
    assert run.counts("reject") == {"message": 3, "image": 1, "kv": 4}


def test_mended_rejects_are_imported_and_again_change_nothing(old: Portagent, ada: str, tmp_path: Path) -> None:
    container = old.container(ada)
    old.conversation(
        1, container, [user_says("first"), {"role": "wizard", "id": "msg_w", "timestamp": T0, "content": "abracadabra"}]
    )
    old.conversation(2, "user-gone", [user_says("whose?"), agent_says("yours")])
    old.conversation(3, container, '[{"role": "user", "content": "cut"')
    rejects, second = tmp_path / "rejects.jsonl", tmp_path / "second.jsonl"
    Run(old.folder, rejects=rejects)
    text = (
        rejects.read_text()
        .replace('"wizard"', '"assistant"')
        .replace("user-gone", container)
        .replace('\\"cut\\"', '\\"cut\\"}]')
    )
    mended = tmp_path / "mended.jsonl"
    mended.write_text(text)
    run = Run(mended, rejects=second)
    assert run.codes() == []
    assert not second.exists()
    assert Conversation.objects.count() == 3
    assert set(Message.objects.exclude(role="notice").values_list("text", flat=True)) == {
        "first",
        "abracadabra",
        "whose?",
        "yours",
        "cut",
    }
    owners = set(Membership.objects.values_list("person__username", flat=True))
    assert owners == {"ada"}
    before = snapshot()
    again = Run(mended)
    assert again.counts("create") == {}
    assert snapshot() == before


def test_rejects_that_are_not_mended_are_rejected_again(old: Portagent, ada: str, tmp_path: Path) -> None:
    old.conversation(2, "user-gone", [user_says("whose?")])
    old.conversation(3, old.container(ada), "broken")
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    Run(old.folder, rejects=first)
    run = Run(first, rejects=second)
    assert run.counts("create") == {}
    assert {json.dumps(line["row"], sort_keys=True) for line in lines(first)} == {
        json.dumps(line["row"], sort_keys=True) for line in lines(second)
    }


def test_conversations_of_nobody_may_be_given_to_somebody(old: Portagent, ada: str) -> None:
    old.conversation(2, "user-gone", [user_says("whose?")])
    keeper = Person.objects.create_user("keeper")
    run = Run(old.folder, orphans=keeper.pk)
    assert run.codes() == []
    assert Membership.objects.get().person == keeper


def test_a_file_that_is_not_taken_waits_in_the_rejects(old: Portagent, ada: str, tmp_path: Path) -> None:
    parts = [
        {"type": "text", "text": "Look"},
        {"type": "file", "data": "%%%", "mediaType": "text/plain", "filename": "a.txt"},
        {
            "type": "file",
            "data": base64.b64encode(b"MZ\x90\x00" * 100).decode(),
            "mediaType": "application/pdf",
            "filename": "b.pdf",
        },
    ]
    old.conversation(1, old.container(ada), [user_says(parts)])
    rejects = tmp_path / "rejects.jsonl"
    run = Run(old.folder, rejects=rejects)
    assert run.codes() == ["portagent.file_refused"] * 2
    assert run.counts("reject") == {"file": 2}
    assert Message.objects.get(role="user").text == "Look"
    mended = tmp_path / "mended.jsonl"
    good = base64.b64encode(b"hello there").decode()
    mended.write_text(rejects.read_text().replace("%%%", good))
    later = Run(mended, rejects=tmp_path / "still.jsonl")
    assert later.counts("create") == {"file": 1}
    kept = Attachment.objects.get()
    assert (kept.name, kept.message) == ("a.txt", Message.objects.get(role="user"))
    assert Run(mended, rejects=tmp_path / "again.jsonl").counts("create") == {}
    assert Attachment.objects.count() == 1
