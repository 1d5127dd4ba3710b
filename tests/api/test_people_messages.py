"""Saying something over the people's API: once, with files, in branches; stopped, said otherwise, answered again."""

from __future__ import annotations

import pytest

from chat.models import AgentGrant, Attachment, Membership, Message, Role, Turn, TurnState
from tests.api.people import ChatApi, conversation_with, person_named, said
from tests.api.test_people_files import upload

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
    return conversation_with(grace, ada)


@pytest.fixture
def where(mine):
    return f"conversations/{mine.conversation_id}/messages"


def test_a_message_is_said_once_however_often_it_is_sent(chat, where, mine):
    first = chat("post", where, {"client_id": "a-1", "text": "What is **new**?"}, status=202)
    assert (first["message"]["text"], first["message"]["html"], first["repeated"]) == ("What is **new**?", "", False)
    assert first["turn"]["state"] == "queued"
    assert first["message"]["turn"]["id"] == first["turn"]["id"]
    assert first["message"]["client_id"] == "a-1"
    again = chat("post", where, {"client_id": "a-1", "text": "What is **new**?"}, status=202)
    assert again["repeated"]
    assert again["message"]["id"] == first["message"]["id"]
    assert Message.objects.count() == 1
    assert Turn.objects.count() == 1
    shown = chat("get", f"conversations/{mine.conversation_id}")
    assert (shown["title"], shown["unread"], shown["last_read_seq"]) == ("What is **new**?", 0, 1)


def test_a_client_id_belongs_to_its_person_and_one_conversation(chat, where, grace, ada):
    chat("post", where, {"client_id": "a-1", "text": "Hello"}, status=202)
    other = conversation_with(grace, ada)
    elsewhere = f"conversations/{other.conversation_id}/messages"
    chat("post", elsewhere, {"client_id": "a-1", "text": "Hello"}, status=422, code="message.client_id_reused")
    mallory = person_named("mallory")
    theirs = conversation_with(mallory, ada)
    said_by = ChatApi(mallory)
    answer = said_by(
        "post", f"conversations/{theirs.conversation_id}/messages", {"client_id": "a-1", "text": "Hi"}, status=202
    )
    assert not answer["repeated"]
    for bad in ("", "a b", "x" * 65, "1:2"):
        chat("post", where, {"client_id": bad, "text": "x"}, status=422, code="request.invalid")


def test_files_go_with_a_message(chat, where, mine):
    one, two = upload(chat, b"one", "1.txt"), upload(chat, b"two", "2.txt")
    body = {"client_id": "a-1", "text": "", "attachments": [two["id"], one["id"]]}
    sent = chat("post", where, body, status=202)
    assert {file["id"] for file in sent["message"]["attachments"]} == {one["id"], two["id"]}
    assert chat("post", where, body, status=202)["repeated"]
    assert Attachment.objects.filter(message_id=sent["message"]["id"]).count() == 2
    again = {**body, "client_id": "a-2"}
    chat("post", where, again, status=422, code="attachment.unknown")
    foreign = upload(ChatApi(person_named("mallory")), b"mine", "m.txt")
    chat("post", where, {**again, "attachments": [foreign["id"]]}, status=422, code="attachment.unknown")
    assert Message.objects.count() == 1
    chat("post", where, {"client_id": "a-3", "text": " "}, status=422, code="message.empty")


def test_a_draft_keeps_own_files_only(chat, mine):
    own = upload(chat, b"one", "1.txt")
    foreign = upload(ChatApi(person_named("mallory")), b"mine", "m.txt")
    where = f"conversations/{mine.conversation_id}"
    kept = chat("put", f"{where}/draft", {"text": "", "attachments": [own["id"], foreign["id"]]})["draft"]
    assert kept["attachments"] == [own["id"]]
    assert chat("get", where)["draft_attachments"] == [own]


def test_an_answer_is_stopped(chat, where):
    turn = chat("post", where, {"client_id": "a-1", "text": "Hello"}, status=202)["turn"]
    assert chat("get", f"turns/{turn['id']}")["text"] == ""
    assert chat("post", f"turns/{turn['id']}/stop", status=202)["state"] == "cancelled"
    row = Turn.objects.get()
    assert (row.state, row.stop_requested_by) == (TurnState.CANCELLED, "person:grace")
    assert chat("get", f"turns/{turn['id']}")["final"]


def test_versions_stand_beside_each_other(chat, where, mine):
    first = chat("post", where, {"client_id": "a-1", "text": "One"}, status=202)
    chat("post", f"turns/{first['turn']['id']}/stop", status=202)
    edited = chat("post", f"messages/{first['message']['id']}/edit", {"client_id": "a-2", "text": "Eins"}, status=202)
    both = [first["message"]["id"], edited["message"]["id"]]
    assert edited["message"]["siblings"] == both
    assert [row["text"] for row in chat("get", where)["items"]] == ["Eins"]
    chat("post", f"messages/{edited['message']['id']}/edit", {"client_id": "a-3", "text": " \n"}, status=422)
    chat("post", f"turns/{edited['turn']['id']}/stop", status=202)
    chat("post", f"messages/{both[0]}/show", status=204)
    shown = chat("get", where)
    assert [row["text"] for row in shown["items"]] == ["One"]
    assert shown["head"] == both[0]
    turn = chat("post", f"messages/{both[0]}/regenerate", status=202)
    assert (turn["message"], turn["variant"]) == (both[0], 1)
    chat("post", f"messages/{both[0]}/regenerate", status=409, code="turn.open")


def test_only_what_oneself_said_is_edited(chat, mine):
    answer = said(mine, "I am Ada", role=Role.ASSISTANT)
    chat("post", f"messages/{answer.pk}/edit", {"client_id": "a", "text": "No"}, status=403, code="message.not_yours")


def test_below_a_message_of_the_same_conversation_only(chat, where, mine, grace, ada):
    root = said(mine, "One")
    said(mine, "Two", role=Role.ASSISTANT)
    sent = chat("post", where, {"client_id": "a", "text": "Other", "parent": root.pk}, status=202)
    assert sent["message"]["parent"] == root.pk
    other = said(conversation_with(grace, ada), "Elsewhere")
    chat("post", where, {"client_id": "b", "text": "x", "parent": other.pk}, status=404)


def test_who_lost_an_agent_reads_but_does_not_write(chat, where, mine, grace, make_agent):
    said(mine, "Hello")
    grace.all_agents = False
    grace.save()
    assert len(chat("get", where)["items"]) == 1
    chat("post", where, {"client_id": "a", "text": "Hello?"}, status=403, code="agent.not_yours")
    AgentGrant.objects.create(person=grace, agent=mine.conversation.agent)
    chat("post", where, {"client_id": "a", "text": "Hello?"}, status=202)


def test_a_notice_stands_where_it_belongs(chat, where, mine):
    asked = said(mine, "One")
    said(mine, "Ada is busy.", role=Role.NOTICE, parent=asked, head=False, transport="notice")
    said(mine, "Two", role=Role.ASSISTANT)
    said(mine, "Three")
    assert [row["text"] for row in chat("get", where)["items"]] == ["One", "Ada is busy.", "Two", "Three"]
    page = chat("get", f"{where}?limit=2")
    assert [row["text"] for row in page["items"]] == ["Two", "Three"]
    rest = chat("get", f"{where}?limit=2&before={page['before']}")
    assert [row["text"] for row in rest["items"]] == ["One", "Ada is busy."]
    assert rest["before"] is None


def test_reading_moves_with_what_one_says(chat, where, mine):
    said(mine, "Are you there?", role=Role.ASSISTANT)
    assert chat("get", f"conversations/{mine.conversation_id}")["unread"] == 1
    chat("post", where, {"client_id": "a", "text": "Yes"}, status=202)
    assert Membership.objects.get().last_read_seq == 2


def test_a_question_that_waited_stands_behind_the_answer_before_it(chat, where, mine):
    """Its number is lower than the answer's; page by page nothing is missing and nothing twice."""
    first = said(mine, "One")
    second = said(mine, "Two")
    answer = said(mine, "Answer to one", role=Role.ASSISTANT, parent=first, head=False)
    Message.objects.filter(pk=second.pk).update(parent=answer)
    said(mine, "Answer to two", role=Role.ASSISTANT, parent=second)
    expected = ["One", "Answer to one", "Two", "Answer to two"]
    for limit in (1, 2, 3, 4):
        found, before = [], ""
        while True:
            page = chat("get", f"{where}?limit={limit}{before}")
            found = [row["text"] for row in page["items"]] + found
            if page["before"] is None:
                break
            before = f"&before={page['before']}"
        assert found == expected
    beside = said(mine, "Eins", parent=None, head=False)
    assert [row["text"] for row in chat("get", f"{where}?before={beside.seq}")["items"]] == expected
    assert [row["text"] for row in chat("get", f"{where}?before=1000")["items"]] == expected
