"""Agents and rooms as their servers have them: read only, without secrets, with a sentence when they cannot be read."""

from __future__ import annotations

import pytest
from django.urls import reverse

from ops.logbook import raw
from ops.redaction import add_secret
from tests.admin.conftest import world  # noqa: F401


@pytest.fixture
def operator(world, client):  # noqa: F811
    client.force_login(world.operator)
    return client


def address(kind, key):
    return reverse("admin:ops_logline_raw", args=[kind, key])


def test_an_agent_is_shown_and_its_page_leads_there(world, operator, monkeypatch):  # noqa: F811
    page = operator.get(reverse("admin:agents_agent_change", args=[world.agent.pk])).content.decode()
    assert address("agent", world.agent.pk) in page
    add_secret("word-of-a-server")
    monkeypatch.setitem(
        raw._kinds,
        "agent",
        raw.RawKind("agent", "the agent", lambda key: {"id": key, "api_key": "sk-x", "note": "a word-of-a-server b"}),
    )
    text = operator.get(address("agent", world.agent.pk)).context["text"]
    assert '"api_key": "[hidden]"' in text
    assert "a [hidden] b" in text


def test_what_cannot_be_read_says_why(world, operator):  # noqa: F811
    missing = operator.get(address("agent", 10**6)).context
    assert (missing["text"], missing["problem"]) == ("", "There is no such agent.")
    room = operator.get(address("room", world.mapping.room_id))
    assert room.status_code == 200
    assert room.context["problem"]
    assert operator.get(address("nothing", 1)).status_code == 404


def test_nobody_else_reads(client, world):  # noqa: F811
    client.force_login(world.person)
    assert client.get(address("agent", world.agent.pk)).status_code == 302


def test_a_letta_agent_is_read_from_its_server(letta, operator, world):  # noqa: F811
    from agents.models import Agent
    from ops.models import Service

    made = letta.create_agent("Prudence")
    service = Service.objects.create(name="real-letta", kind="letta", base_url=letta.url)
    agent = Agent.objects.create(service=service, external_id=made["id"], name="Prudence")
    try:
        context = operator.get(address("agent", agent.pk)).context
        assert context["problem"] == ""
        assert made["id"] in context["text"]
        assert '"blocks"' in context["text"]
    finally:
        letta.delete_agent(made["id"])
