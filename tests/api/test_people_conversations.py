"""People's conversations over the API: whose they are, their list, what a person makes of them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from chat.models import AgentGrant, Conversation, Membership, Message, Role
from ops.models import AuditEvent
from ops.services.tokens import token_create
from tests.api.conftest import Api
from tests.api.people import ChatApi, conversation_with, person_named, said

pytestmark = pytest.mark.django_db


@pytest.fixture
def grace(db):
    return person_named("grace")


@pytest.fixture
def chat(grace):
    return ChatApi(grace)


def test_the_doors_of_people_and_of_operators_are_apart(grace, ada, operator, write_token):
    """A person opens nothing of the operators', an operator's token nothing of people's; an operator in a browser is a person too."""
    person = ChatApi(grace)
    assert person("get", "agents")["items"][0]["id"] == ada.pk
    for path in ("agents", "conversations", "turns", "messages/1", "audit", "settings", "services", "me"):
        person("get", f"/api/v1/{path}", status=401, code="auth.required")
    problem = Api(write_token)("get", "chat/agents", status=401, code="auth.required")
    assert "personal token" in problem["detail"]
    ChatApi()("get", "conversations", status=401, code="auth.required")
    ChatApi(operator)("get", "conversations")
    chat_token = token_create(owner=operator, name="mine", scope="chat", actor="test")[1]
    Api(chat_token)("get", "agents", status=401, code="auth.required")


def test_a_browser_needs_its_csrf_token(grace, ada):
    client = Client(enforce_csrf_checks=True)
    client.force_login(grace)
    refused = client.post("/api/v1/chat/conversations", {"agent": ada.pk}, content_type="application/json")
    assert refused.status_code == 403
    assert refused.json()["code"] == "auth.csrf"
    assert not Conversation.objects.exists()
    assert client.get("/api/v1/chat/conversations").status_code == 200


def test_somebody_deactivated_is_nobody(grace):
    chat = ChatApi(grace)
    chat("get", "conversations")
    grace.is_active = False
    grace.save()
    chat("get", "conversations", status=401, code="auth.required")


def test_a_conversation_from_its_beginning_to_its_end(chat, grace, ada):
    made = chat("post", "conversations", {"agent": ada.pk}, status=201, key="begin-1")
    again = chat("post", "conversations", {"agent": ada.pk}, status=201, key="begin-1")
    assert made == again
    assert Conversation.objects.count() == 1
    row = Conversation.objects.get()
    assert row.portal
    assert row.agent == ada
    assert row.links.get().kind == "portal"
    where = f"conversations/{made['id']}"
    changed = chat("patch", where, {"title": "  Trip\tto\nRome\x07 ", "pinned": True})
    assert (changed["title"], changed["titled"], changed["pinned"]) == ("Trip to Rome", True, True)
    assert changed["revision"] == 1
    assert chat("patch", where, {"archived": True, "pinned": False})["archived"]
    assert chat("get", "conversations")["items"] == []
    assert [one["id"] for one in chat("get", "conversations?archived=true")["items"]] == [made["id"]]
    chat("delete", where, status=204)
    chat("get", where, status=404, code="resource.not_found")
    assert chat("get", "conversations?archived=true")["items"] == []
    assert [one["id"] for one in chat("get", "conversations?removed=true")["items"]] == [made["id"]]
    assert chat("post", f"{where}/restore")["title"] == "Trip to Rome"
    assert chat("get", where)["room"] is None
    deeds = set(AuditEvent.objects.values_list("action", flat=True))
    assert {"conversation.started", "conversation.renamed", "conversation.removed", "conversation.restored"} <= deeds
    assert set(AuditEvent.objects.filter(action="conversation.renamed").values_list("actor", flat=True)) == {
        "person:grace"
    }


def test_an_agent_that_is_not_granted_does_not_exist(grace, ada, make_agent):
    other = make_agent("demo-bob", "Bob")
    grace.all_agents = False
    grace.save()
    AgentGrant.objects.create(person=grace, agent=other)
    chat = ChatApi(grace)
    assert [one["name"] for one in chat("get", "agents")["items"]] == ["Bob"]
    chat("post", "conversations", {"agent": ada.pk}, status=404, code="resource.not_found")
    chat("post", "conversations", {"agent": other.pk}, status=201)
    chat("post", "conversations", {"agent": 10**9}, status=404, code="resource.not_found")


def _at(membership: Membership, minutes: int) -> None:
    Conversation.objects.filter(pk=membership.conversation_id).update(
        last_message_at=timezone.now() - timedelta(minutes=minutes)
    )


def test_the_list_is_sorted_and_paged(chat, grace, ada):
    """Pinned ones first, then the newest; page by page nothing is missing and nothing twice, even at equal times."""
    rows = [conversation_with(grace, ada, f"c{number}") for number in range(7)]
    for number, row in enumerate(rows):
        _at(row, 10 * number)
    same = timezone.now() - timedelta(minutes=15)
    Conversation.objects.filter(title__in=["c4", "c5", "c6"]).update(last_message_at=same)
    for number in (3, 1):
        Membership.objects.filter(pk=rows[number].pk).update(pinned_at=timezone.now())
    conversation_with(person_named("mallory"), ada, "not hers")
    titles = [one["title"] for one in chat.walk("conversations?limit=2")]
    assert titles == ["c1", "c3", "c0", "c6", "c5", "c4", "c2"]
    assert [one["title"] for one in chat.walk("conversations?q=C3")] == ["c3"]
    for broken in ("x", "WzFd", "bnVsbA"):
        chat("get", f"conversations?cursor={broken}", status=422, code="cursor.invalid")


def test_a_list_takes_the_same_queries_however_long(chat, grace, ada, django_assert_num_queries):
    def rows(count):
        for number in range(count):
            membership = conversation_with(grace, ada, f"c{number}")
            said(membership, "Hello")
            said(membership, "Hi", role=Role.ASSISTANT)

    rows(2)
    chat("get", "conversations")
    with django_assert_num_queries(5):
        assert len(chat("get", "conversations")["items"]) == 2
    rows(20)
    with django_assert_num_queries(5):
        assert len(chat("get", "conversations")["items"]) == 22


def test_what_is_unread(chat, grace, ada):
    membership = conversation_with(grace, ada)
    where = f"conversations/{membership.conversation_id}"
    said(membership, "Hello")
    answer = said(membership, "Hi", role=Role.ASSISTANT)
    said(membership, "Are you there?", role=Role.ASSISTANT)
    assert chat("get", where)["unread"] == 2
    assert chat("post", f"{where}/read", {"seq": answer.seq}) == {"last_read_seq": 2, "unread": 1}
    assert chat("post", f"{where}/read", {"seq": 1}) == {"last_read_seq": 2, "unread": 1}
    assert chat("post", f"{where}/read", {"seq": 999}) == {"last_read_seq": 3, "unread": 0}
    assert chat("get", "conversations")["items"][0]["unread"] == 0
    Message.objects.bulk_create(
        Message(
            conversation=membership.conversation, seq=number, sender=answer.sender, role=Role.ASSISTANT, text="x",
            transport="agent", external_id=f"x{number}", received_at=timezone.now(), stored_at=timezone.now(),
        )
        for number in range(4, 304)
    )  # fmt: skip
    Conversation.objects.update(next_seq=304)
    assert chat("get", where)["unread"] == 100


def test_a_draft_is_kept(chat, grace, ada):
    membership = conversation_with(grace, ada)
    where = f"conversations/{membership.conversation_id}"
    kept = chat("put", f"{where}/draft", {"text": "Dear Ada,\n"})["draft"]
    assert kept["text"] == "Dear Ada,\n"
    assert kept["attachments"] == []
    assert chat("get", "conversations")["items"][0]["draft"] == kept
    assert chat("put", f"{where}/draft", {"text": ""}) == {"draft": {}}
    membership.refresh_from_db()
    assert membership.draft == {}
    assert membership.draft_at is None
    chat("put", f"{where}/draft", {"text": "x" * 100_001}, status=422, code="request.invalid")


def test_the_branch_page_by_page(chat, grace, ada, django_assert_num_queries):
    """Only the branch that is shown, with the versions beside each message; a constant number of queries."""
    membership = conversation_with(grace, ada)
    where = f"conversations/{membership.conversation_id}/messages"
    first = said(membership, "One")
    answer = said(membership, "**Two**", role=Role.ASSISTANT)
    for number in range(20):
        said(membership, f"more {number}")
    tip = membership.conversation.head
    other = said(membership, "Zwei", role=Role.ASSISTANT, parent=first, head=False)
    page = chat("get", f"{where}?limit=15")
    assert [one["text"] for one in page["items"]] == [f"more {number}" for number in range(5, 20)]
    assert page["head"] == tip.pk
    assert page["items"][-1]["id"] == tip.pk
    rest = chat("get", f"{where}?limit=15&before={page['before']}")
    assert [one["text"] for one in rest["items"]] == ["One", "**Two**", *(f"more {number}" for number in range(5))]
    assert rest["before"] is None
    assert rest["items"][1]["siblings"] == [answer.pk, other.pk]
    assert rest["items"][0]["siblings"] == []
    assert "<strong>Two</strong>" in rest["items"][1]["html"]
    with django_assert_num_queries(8):
        chat("get", f"{where}?limit=2")
    with django_assert_num_queries(8):
        chat("get", f"{where}?limit=200")
    Conversation.objects.update(head=other)
    assert [one["text"] for one in chat("get", where)["items"]] == ["One", "Zwei"]
