"""Moving an agent in the admin and by the API: the server is asked for its agents, a refusal says why, account and room stay."""

from __future__ import annotations

from typing import Any

from django.urls import reverse

from agents.models import Agent, AgentState
from ops.models import Service
from ops.services.services import service_save
from ops.services.tokens import token_create
from tests.admin.conftest import World


def other(name: str = "second") -> Service:
    return service_save(actor="test", name=name, kind="demo")


def test_an_agent_is_moved_step_by_step(world: World, client: Any) -> None:
    other()
    address = reverse("admin:agents_agent_move", args=[world.agent.pk])
    answer = client.post(reverse("admin:agents_agent_deed", args=[world.agent.pk, "move"]))
    assert answer["Location"] == address
    text = client.get(address).content.decode()
    assert '<option value="second">second</option>' in text
    assert "Agent there" in text
    assert "demo-ada" not in text
    text = client.get(address, {"service": "second"}).content.decode()
    assert '<option value="demo-ada">Ada (demo-ada)</option>' in text
    refused = client.post(address, {"service": "second", "external_id": "nobody"})
    assert "nobody is not one of the available choices" in refused.content.decode()
    moved = client.post(address, {"service": "second", "external_id": "demo-ada"}, follow=True)
    assert "is answered by second now" in moved.content.decode()
    agent = Agent.objects.get(pk=world.agent.pk)
    assert (agent.service.name, agent.external_id) == ("second", "demo-ada")
    assert agent.mapping == world.mapping
    assert agent.mapping.account.user_id == "@agent_0:hs.test"


def test_two_rooms_are_a_question_and_what_is_left_behind_can_be_taken_up(world: World, client: Any) -> None:
    from tests.admin.conftest import make_agents

    service = other()
    (theirs,) = make_agents(service, world.homeserver, 1, start=1)
    Agent.objects.filter(pk=theirs.pk).update(external_id="demo-ada")
    address = reverse("admin:agents_agent_move", args=[world.agent.pk])
    said = {"service": "second", "external_id": "demo-ada"}
    assert "has a room already" in client.post(address, said).content.decode()
    assert Agent.objects.get(pk=world.agent.pk).service == world.demo
    client.post(address, {**said, "keep": "own"})
    assert Agent.objects.get(pk=world.agent.pk).service == service
    left = Agent.objects.get(pk=theirs.pk)
    assert left.state == AgentState.ARCHIVED
    page = client.get(reverse("admin:agents_agent_change", args=[left.pk])).content.decode()
    release = reverse("admin:agents_agent_deed", args=[left.pk, "release"])
    assert release in page
    client.post(release)
    assert release not in client.get(reverse("admin:agents_agent_change", args=[left.pk])).content.decode()


def test_a_server_that_does_not_answer_is_said(world: World, client: Any) -> None:
    service_save(actor="test", name="silent", kind="letta", base_url="http://127.0.0.1:1")
    text = client.get(reverse("admin:agents_agent_move", args=[world.agent.pk]), {"service": "silent"}).content.decode()
    assert "The agents of silent could not be read" in text


def test_the_api_moves_and_refuses_with_a_problem(world: World, client: Any) -> None:
    other()
    client.logout()
    _, token = token_create(owner=world.operator, name="ci", scope="write", actor="test")
    headers = {"Authorization": f"Bearer {token}"}
    address = f"/api/v1/agents/{world.agent.pk}"

    def post(path: str, **body: str) -> Any:
        return client.post(f"{address}/{path}", body, content_type="application/json", headers=headers)

    refused = post("move", service="second")
    assert (refused.status_code, refused.json()["code"]) == (409, "agent.cannot_move")
    assert "lists no agent" in refused.json()["detail"]
    assert post("move", service="nowhere").status_code == 422
    assert post("release").json()["code"] == "agent.cannot_move"
    moved = post("move", service="second", external_id="demo-echo").json()
    assert (moved["service"], moved["external_id"], moved["account"]) == ("second", "demo-echo", "@agent_0:hs.test")
