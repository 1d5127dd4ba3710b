"""Conversations out of here and into here: complete, once, safe, and whatever a file holds."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from chat.models import Attachment, Conversation, Message, Role
from chat.services import exports
from chat.services.exports import prune_exports
from ops.models import Job
from ops.services.jobs import run_job
from tests.api.people import ChatApi, conversation_with, person_named, said
from tests.api.test_people_files import body, upload

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _place(settings, tmp_path):
    settings.ATTACHMENTS_DIR = tmp_path / "attachments"


@pytest.fixture
def grace(db):
    return person_named("grace")


@pytest.fixture
def chat(grace):
    return ChatApi(grace)


@pytest.fixture
def mine(grace, ada):
    membership = conversation_with(grace, ada, "Trip <to> Rome/../")
    first = said(membership, "Where to?")
    said(membership, "To **Rome**", role=Role.ASSISTANT, parts=[{"type": "reasoning", "text": "hm"}])
    said(membership, "To Paris", role=Role.ASSISTANT, parent=first, head=False)
    said(membership, "<script>alert(1)</script>")
    return membership


def bring(chat: ChatApi, data: Any, name: str = "export.json", status: int = 200) -> dict:
    content = data if isinstance(data, bytes) else json.dumps(data).encode()
    response = chat.client.post("/api/v1/chat/import", {"file": SimpleUploadedFile(name, content)})
    assert response.status_code == status, response.content
    return response.json()


def tree(conversation: Conversation) -> list[tuple[str, str, str | None]]:
    rows = Message.objects.filter(conversation=conversation).order_by("seq").select_related("parent")
    return sorted((row.role, row.text, row.parent.text if row.parent else None) for row in rows)


def test_one_conversation_in_three_forms(chat, mine):
    where = f"/api/v1/chat/conversations/{mine.conversation_id}/export"
    found = chat.client.get(f"{where}?format=json")
    document = json.loads(found.content)
    assert [row["text"] for row in document["messages"]] == [
        "Where to?", "To **Rome**", "To Paris", "<script>alert(1)</script>",
    ]  # fmt: skip
    assert document["messages"][1]["parts"] == [{"type": "reasoning", "text": "hm"}]
    assert found.headers["Content-Disposition"].startswith("attachment")
    assert "/" not in found.headers["Content-Disposition"].partition("filename")[2].replace("utf-8''", "")
    markdown = chat.client.get(f"{where}?format=md").content.decode()
    assert "To **Rome**" in markdown
    assert "To Paris" not in markdown
    page = chat.client.get(f"{where}?format=html")
    assert page.headers["Content-Disposition"].startswith("attachment")
    assert page.headers["Content-Security-Policy"].startswith("sandbox")
    text = page.content.decode()
    assert "<strong>Rome</strong>" in text
    assert "<script>alert" not in text
    assert "default-src 'none'" in text
    assert "src=" not in text
    assert ChatApi(person_named("mallory")).client.get(where).status_code == 404


def test_what_goes_out_comes_in_again_once(chat, grace, ada, mine):
    document = json.loads(chat.client.get(f"/api/v1/chat/conversations/{mine.conversation_id}/export").content)
    other = ChatApi(person_named("hedy"))
    assert bring(other, document)["conversations"] == 1
    made = Conversation.objects.latest("pk")
    assert tree(made) == tree(mine.conversation)
    assert (made.title, made.agent, made.head.text) == (mine.conversation.title, ada, "<script>alert(1)</script>")
    again = bring(other, document)
    assert (again["conversations"], again["repeated"]) == (0, 1)
    assert Conversation.objects.count() == 2
    shown = other("get", f"conversations/{made.pk}/messages")["items"]
    assert [row["text"] for row in shown] == ["Where to?", "To **Rome**", "<script>alert(1)</script>"]
    assert len(shown[1]["siblings"]) == 2
    assert other("get", f"conversations/{made.pk}")["unread"] == 0


CHATGPT = [
    {
        "id": "c-1", "title": "From there", "create_time": 1700000000.5, "current_node": "d",
        "mapping": {
            "root": {"id": "root", "message": None, "parent": None},
            "s": {"message": {"author": {"role": "system"}, "content": {"parts": [""]}}, "parent": "root"},
            "a": {"message": {"author": {"role": "user"}, "content": {"parts": ["Hi"]}, "create_time": 1700000001}, "parent": "s"},
            "b": {"message": {"author": {"role": "assistant"}, "content": {"parts": ["Hello"]}, "create_time": 1700000002}, "parent": "a"},
            "t": {"message": {"author": {"role": "tool"}, "content": {"parts": ["x"]}}, "parent": "a"},
            "d": {"message": {"author": {"role": "assistant"}, "content": {"parts": ["Hello again", {"image": 1}]}, "create_time": 1700000003}, "parent": "t"},
        },
    }
]  # fmt: skip

OPEN_WEBUI = [
    {
        "id": "w-1", "title": "Web", "created_at": 1700000000,
        "chat": {"models": ["Ada"], "history": {"currentId": "2", "messages": {
            "1": {"id": "1", "parentId": None, "role": "user", "content": "Eins", "timestamp": 1700000001},
            "2": {"id": "2", "parentId": "1", "role": "assistant", "content": "Zwei", "timestamp": 1700000002},
            "3": {"id": "3", "parentId": "1", "role": "assistant", "content": "Drei", "timestamp": 1700000003},
        }}},
    }
]  # fmt: skip


def test_exports_of_others_keep_their_branches(chat, ada):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("conversations.json", json.dumps(CHATGPT))
        archive.writestr("user.html", "x")
    report = bring(chat, packed.getvalue(), "chatgpt.zip")
    assert (report["conversations"], report["messages"]) == (1, 3)
    assert "agent is not here" in report["findings"][0]
    made = Conversation.objects.get()
    assert tree(made) == [
        ("assistant", "Hello", "Hi"), ("assistant", "Hello again", "Hi"), ("user", "Hi", None),
    ]  # fmt: skip
    assert made.head.text == "Hello again"
    assert made.created_at.year == 2023
    report = bring(chat, OPEN_WEBUI)
    made = Conversation.objects.latest("pk")
    assert (made.title, made.agent, made.head.text) == ("Web", ada, "Zwei")
    assert bring(chat, OPEN_WEBUI)["repeated"] == 1


@pytest.mark.parametrize(
    "data",
    [b"", b"nonsense", b"{}", b"[]", b"[1,2]", b'{"format":"other"}', b"[" * 100_000, b"PK\x05\x06" + b"\0" * 18],
    ids=["empty", "nonsense", "object", "list", "numbers", "other", "deep", "empty zip"],
)
def test_what_is_no_export(chat, data):
    assert bring(chat, data, status=422)["code"] == "import.refused"
    assert not Conversation.objects.exists()


def test_a_hostile_export_does_no_harm(chat, ada):
    ring = {"format": "switchboard.conversation", "id": 1, "title": ["x"], "agent": 7, "messages": [
        {"id": 1, "parent": 2, "role": "user", "text": "a\x00b", "parts": "x", "said_at": "1e400"},
        {"id": 2, "parent": 1, "role": "assistant", "text": 5, "parts": [{"type": "edit"}, {"type": "text", "text": "t"}], "said_at": 1e300},
        {"id": 3, "parent": 3, "role": "user", "text": "self"},
        {"id": 4, "parent": 99, "role": "root", "text": "no such role"},
        "x",
    ]}  # fmt: skip
    assert bring(chat, ring)["messages"] == 3
    made = Conversation.objects.get()
    assert {row.text for row in Message.objects.filter(conversation=made)} == {"ab", "", "self"}
    chat("get", f"conversations/{made.pk}/messages")


def test_all_of_it_in_one_archive(chat, grace, ada, mine, django_capture_on_commit_callbacks):
    file = upload(chat, b"the plan", "plan.txt")
    Attachment.objects.filter(pk=file["id"]).update(message=mine.conversation.head, conversation=mine.conversation)
    conversation_with(grace, ada, "Empty one")
    theirs = conversation_with(person_named("mallory"), ada, "Not hers")
    said(theirs, "secret")
    started = chat("post", "export", status=202)
    assert started["url"] is None
    assert run_job(Job.objects.get().pk)
    ready = chat("get", f"export/{started['id']}")
    assert (ready["state"], ready["done"]) == ("succeeded", 2)
    response = chat.client.get(ready["url"])
    data = body(response)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        assert sum(name.endswith(".json") for name in names) == 2
        assert sum(name.endswith((".md", ".html")) for name in names) == 4
        assert archive.read(next(name for name in names if name.endswith("plan.txt"))) == b"the plan"
        assert not any(name.startswith("/") or ".." in name.split("/") for name in names)
        assert b"secret" not in b"".join(archive.read(name) for name in names)
    assert exports.export_path(Job.objects.get()).stat().st_mode & 0o777 == 0o600
    mallory = ChatApi(theirs.person)
    mallory("get", f"export/{started['id']}", status=404)
    assert mallory.client.get(ready["url"]).status_code == 404
    assert bring(ChatApi(person_named("hedy")), data, "all.zip")["conversations"] == 1


def test_an_archive_goes_after_a_day(chat, mine, monkeypatch):
    started = chat("post", "export", status=202)
    run_job(Job.objects.get().pk)
    assert prune_exports() == 0
    monkeypatch.setattr(exports, "KEPT_SECONDS", -1.0)
    assert prune_exports() == 1
    gone = chat("get", f"export/{started['id']}")
    assert (gone["state"], gone["url"]) == ("failed", None)
    assert "again" in gone["error"]
