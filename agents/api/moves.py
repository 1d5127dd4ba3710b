"""Moving an agent to another server, and taking up again what a move left behind."""

from __future__ import annotations

from typing import Literal

from django.http import HttpRequest, HttpResponse
from ninja import Field, Router

from agents.api.agents import agent_of, detail_dict
from agents.api.schemas import AgentDetailOut
from agents.services.moving import CannotMove, agent_move, agent_release
from ops.api.answers import answer
from ops.api.inputs import Body, Id, Text
from ops.api.principals import principal_of
from ops.api.problems import REQUEST_INVALID, FieldError, Problem, declare, translate
from ops.models import Service

router = Router(tags=["Agents"])

CANNOT_MOVE = declare("agent.cannot_move", 409, "The agent cannot be moved so")
translate(CannotMove, lambda error: Problem(CANNOT_MOVE, error.sentence))


class MoveIn(Body):
    service: Text = Field(max_length=64, description="Name of the service it moves to.", examples=["letta-2"])
    external_id: Text = Field("", max_length=255, description="Its id there; the same one when left out.")
    keep: Literal["", "own", "theirs"] = Field(
        "", description="Which room goes on when the other server's agent has one already."
    )


@router.post(
    "/{agent_id}/move",
    response=AgentDetailOut,
    operation_id="agents_move",
    summary="Let another server answer for an agent",
)
def agents_move(request: HttpRequest, agent_id: Id, body: MoveIn) -> HttpResponse:
    """Account, room, conversations and settings stay. The other server must list the agent."""
    agent = agent_of(agent_id)
    service = Service.objects.filter(name=body.service).first()
    if service is None:
        sentence = f"There is no service named {body.service}."
        raise Problem(REQUEST_INVALID, sentence, errors=[FieldError("service", sentence)])
    agent_move(
        agent=agent, service=service, external_id=body.external_id or agent.external_id, keep=body.keep,
        actor=principal_of(request).actor,
    )  # fmt: skip
    return answer(detail_dict(agent_of(agent_id)))


@router.post(
    "/{agent_id}/release",
    response=AgentDetailOut,
    operation_id="agents_release",
    summary="Take up again what a move left behind",
)
def agents_release(request: HttpRequest, agent_id: Id) -> HttpResponse:
    """The next sync gives it an account and a room of its own."""
    agent_release(agent=agent_of(agent_id), actor=principal_of(request).actor)
    return answer(detail_dict(agent_of(agent_id)))
