"""Operators' pages about what is said in the portal: branches, approvals, holds, retention, sockets, the import from Portagent."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from chat.models import Conversation, Membership, Message, SocketClose, SocketTicket, Turn
from chat.services.conversations import next_seq, participant
from chat.services.portal import conversation_start
from ops.live import live
from ops.models import AuditEvent, Job
from tests.admin.conftest import World


def text_of(answer: Any) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode()).split())


@pytest.fixture
def talk(world: World) -> Conversation:
    """A conversation of the portal: a question with two answers, of which the second is shown."""
    made = conversation_start(person=world.person, agent=world.agent, title="A talk", actor="person:bea").conversation
    now = timezone.now()

    def say(role: str, text: str, parent: Message | None) -> Message:
        who = participant(made.pk, kind="agent" if role == "assistant" else "person", external_id=role, name=role)
        return Message.objects.create(
            conversation=made, seq=next_seq(made.pk), role=role, text=text, parent=parent, sender=who, transport="portal",
            received_at=now, stored_at=now,
        )  # fmt: skip

    asked = say("user", "How?", None)
    say("assistant", "First answer", asked)
    second = say("assistant", "Second answer", asked)
    Conversation.objects.filter(pk=made.pk).update(head=second)
    made.refresh_from_db()
    return made


class TestConversations:
    def test_members_and_branches_are_told(self, world: World, client: Any, talk: Conversation) -> None:
        page = client.get(reverse("admin:chat_conversation_change", args=[talk.pk]))
        text = text_of(page)
        assert "In the portal of bea" in text
        assert "‹1/2›" in text
        assert "‹2/2›" in text
        assert text.count("In another branch") == 1
        items = {item["message"].text: item["aside"] for item in page.context["items"]}
        assert items == {"How?": False, "First answer": True, "Second answer": False}

    def test_listed_by_place_and_person(self, world: World, client: Any, talk: Conversation) -> None:
        address = reverse("admin:chat_conversation_changelist")

        def listed(**asked: str) -> list[str]:
            return [str(row) for row in client.get(address, asked).context["cl"].result_list]

        assert listed(place="portal") == ["A talk"]
        assert listed(place="room") == ["Agent 000"]
        assert listed(person=str(world.person.pk)) == ["A talk"]
        assert listed(person=str(world.operator.pk)) == []
        assert len(listed()) == 2
        Conversation.objects.filter(pk=talk.pk).update(hold="Court")
        assert listed(place="held") == ["A talk"]

    def test_held_with_a_reason_and_released(self, world: World, client: Any, talk: Conversation) -> None:
        deed = reverse("admin:chat_conversation_deed", args=[talk.pk, "hold"])
        assert "This field is required" in client.post(deed, {"reason": ""}).content.decode()
        page = client.post(deed, {"reason": "Case 12"}, follow=True)
        assert "Legal hold Case 12" in text_of(page)
        client.post(reverse("admin:chat_conversation_deed", args=[talk.pk, "release"]))
        talk.refresh_from_db()
        assert talk.hold == ""
        assert AuditEvent.objects.filter(action="conversation.released", actor="person:ada").exists()

    def test_a_call_is_allowed_or_refused_once(self, world: World, client: Any, talk: Conversation) -> None:
        question = talk.messages.get(text="How?")
        now = timezone.now()
        calls = [
            {
                "id": name,
                "name": name,
                "arguments": {"path": "/etc"},
                "approve": None,
                "by": "",
                "reason": "",
                "at": None,
            }
            for name in ("read_file", "send_mail")
        ]
        turn = Turn.objects.create(
            conversation=talk, agent=world.agent, message=question, seq=question.seq, lane="x", variant=3, state="waiting_approval",
            approvals=calls, not_before=now, created_at=now, started_at=now,
        )  # fmt: skip
        page = client.get(reverse("admin:chat_conversation_change", args=[talk.pk]))
        assert "Allow read_file" in text_of(page)
        address = reverse("admin:chat_conversation_approve", args=[talk.pk])
        client.post(address, {"turn": turn.pk, "call": "read_file", "do": "approve"})
        client.post(address, {"turn": turn.pk, "call": "send_mail", "do": "deny", "reason": "Not today"})
        turn.refresh_from_db()
        found = {call["id"]: (call["approve"], call["by"], call["reason"]) for call in turn.approvals}
        assert found == {"read_file": (True, "person:ada", ""), "send_mail": (False, "person:ada", "Not today")}
        again = client.post(address, {"turn": turn.pk, "call": "send_mail", "do": "approve"}, follow=True)
        assert "refused already" in text_of(again)
        other = reverse("admin:chat_conversation_approve", args=[world.conversation.pk])
        assert client.post(other, {"turn": turn.pk, "call": "read_file", "do": "approve"}).status_code == 404


class TestRetention:
    def test_the_preview_tells_count_and_oldest_and_stores_nothing(
        self, world: World, client: Any, talk: Conversation
    ) -> None:
        long_ago = timezone.now() - timedelta(days=100)
        Conversation.objects.filter(pk=talk.pk).update(last_message_at=long_ago, created_at=long_ago)
        address = reverse("admin:retention")
        assert "Nothing is older than it may be" in text_of(client.get(address))
        page = client.post(address, {"do": "preview", "days_conversations": "30"})
        kinds = {one["kind"]: one for one in page.context["kinds"]}
        assert (kinds["conversations"]["due"].count, kinds["conversations"]["tried"]) == (1, True)
        assert kinds["conversations"]["size"]
        assert live("retention.conversations.days") == 0
        stored = client.post(address, {"do": "store", "days_conversations": "30"}, follow=True)
        assert "1 kind of rows has rows" in text_of(stored)
        assert live("retention.conversations.days") == 30
        assert "whole number" in text_of(
            client.post(address, {"do": "store", "days_conversations": "soon"}, follow=True)
        )

    def test_the_hold_stops_everything(self, world: World, client: Any) -> None:
        page = client.post(reverse("admin:retention"), {"hold": "on"}, follow=True)
        assert "Nothing is removed for its age, by nobody" in text_of(page)
        assert live("retention.hold") is True
        client.post(reverse("admin:retention"), {"hold": "off"})
        assert live("retention.hold") is False


class TestSockets:
    def test_the_page_gives_a_ticket_to_operators_alone(self, world: World, client: Any) -> None:
        SocketClose.objects.create(hour=timezone.now(), code=4401, seconds=0, count=7)
        page = client.get(reverse("admin:socket_check"))
        assert "no ticket or token" in text_of(page)
        address = reverse("admin:socket_check_ticket")
        assert client.get(address).status_code == 405
        ticket = client.post(address).json()["ticket"]
        assert SocketTicket.objects.get().person == world.operator
        assert ticket not in str(list(SocketTicket.objects.values()))
        other = Client()
        other.force_login(world.person)
        assert other.post(address).status_code == 302


class TestPortagent:
    def test_first_it_looks_then_it_brings_over(self, world: World, client: Any, settings: Any, tmp_path: Any) -> None:
        settings.DATA_DIR = tmp_path
        (tmp_path / "imports" / "old").mkdir(parents=True)
        address = reverse("admin:portagent")
        assert "one of the two" in text_of(client.post(address, {}))
        assert "Nobody is called" in text_of(client.post(address, {"path": "old", "orphans": "nobody"}))
        outside = client.post(address, {"path": "../../etc"})
        assert outside.status_code == 200
        assert not Job.objects.filter(kind="chat.portagent_import").exists()
        begun = client.post(address, {"path": "old", "agent": world.agent.pk})
        job = Job.objects.latest("created_at")
        assert begun["Location"] == reverse("admin:portagent_job", args=[job.pk])
        assert (job.params["dry_run"], job.params["path"], job.actor) == (True, "old", "person:ada")
        client.post(begun["Location"])
        assert Job.objects.filter(kind=job.kind).count() == 1, "nothing is brought over before it was looked at"
        counts = {"create": {"user": 3, "message": 41}, "reject": {"message": 1}}
        finding = {
            "severity": "error",
            "code": "x",
            "sentence": "Row 7 is broken.",
            "target": "message:7",
            "evidence": {},
        }
        Job.objects.filter(pk=job.pk).update(
            state="succeeded", result={"counts": counts, "findings": [finding], "rejects": 1}
        )
        shown = text_of(client.get(begun["Location"]))
        assert "Nothing has changed yet" in shown
        assert "Row 7 is broken." in shown
        assert "People 3" in shown
        client.post(begun["Location"])
        applied = Job.objects.latest("created_at")
        assert (applied.params["dry_run"], applied.params["agent"]) == (False, world.agent.pk)


def test_every_further_page_is_for_operators(world: World, client: Any, talk: Conversation) -> None:
    Membership.objects.get()
    for name in ("retention", "socket_check", "portagent", "usage"):
        address = reverse(f"admin:{name}")
        assert client.get(address).status_code == 200, name
        other = Client()
        other.force_login(world.person)
        assert other.get(address).status_code == 302, name
