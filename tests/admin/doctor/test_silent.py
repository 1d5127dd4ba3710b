"""Why is it silent: the cord, where it is cut, and the one repair of that hop."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from agents.models import Agent
from chat.models import Message
from ops.models import Heartbeat, Service
from tests.admin.conftest import World
from tests.admin.doctor.conftest import text_of


@pytest.fixture
def line(world: World) -> World:
    """A line on which everything works but the message that failed."""
    Heartbeat.objects.update_or_create(name="test", defaults={"seen_at": timezone.now(), "started_at": timezone.now()})
    Service.objects.update(status="ok", status_sentence="It answers.")
    return world


def page(client: Any, kind: str, pk: int) -> str:
    return text_of(client.get(reverse("admin:chat_silent", args=[kind, pk])))


def test_a_paused_agent_is_the_cut(line: World, client: Any) -> None:
    Agent.objects.filter(pk=line.agent.pk).update(paused=True)
    text = page(client, "agent", line.agent.pk)
    assert "Agent 000 is paused." in text
    assert "It stops at “Agent”" in text
    assert text.count("dr-red") == 1
    assert ": it stopped here." in text
    resume = reverse("admin:ops_repair_plan", args=["agent.resume"])
    assert f"{resume}?target=agent%3A{line.agent.pk}" in text
    # One hop, one repair.
    assert text.count('class="sb-button sb-primary"') == 1


def test_the_repair_of_the_hop_joins_the_cord_again(line: World, client: Any) -> None:
    from tests.admin.doctor.test_repair_pages import hidden

    Agent.objects.filter(pk=line.agent.pk).update(paused=True)
    plan = f"{reverse('admin:ops_repair_plan', args=['agent.resume'])}?target=agent:{line.agent.pk}"
    client.post(plan, hidden(text_of(client.get(plan))))
    assert not Agent.objects.get(pk=line.agent.pk).paused
    assert "is paused" not in page(client, "agent", line.agent.pk)


def test_a_message_that_failed(line: World, client: Any) -> None:
    message = Message.objects.get(seq=1)
    text = page(client, "message", message.pk)
    assert "The way of the message" in text
    assert "connection refused" in text
    assert "Cut" in text
    live = client.get(reverse("admin:chat_silent_live", args=["message", message.pk]))
    assert "data-live" in text_of(live)


def test_ways_lead_to_it(line: World, client: Any) -> None:
    agent = text_of(client.get(reverse("admin:agents_agent_change", args=[line.agent.pk])))
    assert reverse("admin:chat_silent", args=["agent", line.agent.pk]) in agent
    room = text_of(client.get(reverse("admin:agents_room_change", args=[line.mapping.room_id])))
    assert reverse("admin:chat_silent", args=["room", line.mapping.room_id]) in room
    turn = text_of(client.get(reverse("admin:chat_turn_change", args=[line.failed.pk])))
    assert reverse("admin:chat_silent", args=["message", line.failed.message_id]) in turn
    said = text_of(client.get(reverse("admin:chat_conversation_change", args=[line.conversation.pk])))
    assert reverse("admin:chat_silent", args=["message", line.failed.message_id]) in said
    page(client, "room", line.mapping.room_id)


def test_what_is_not_there(line: World, client: Any) -> None:
    assert client.get(reverse("admin:chat_silent", args=["agent", 999_999])).status_code == 404
    assert client.get(reverse("admin:chat_silent", args=["nothing", 1])).status_code == 404
