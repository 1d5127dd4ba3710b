"""Why is it silent: the hops of a message, of an agent's last one or of a room's, the red one, and what mends it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from django.http import HttpRequest, HttpResponse
from ninja import Field, Router, Schema

from agents.models import Agent, Room
from chat.doctor.silence import diagnose
from chat.models import Message
from ops.api.answers import answer
from ops.api.inputs import Id
from ops.api.problems import not_found

router = Router(tags=["Traces"])

_KINDS: dict[str, type[Agent] | type[Room] | type[Message]] = {"agents": Agent, "rooms": Room, "messages": Message}


class TraceHopOut(Schema):
    name: str
    label: str
    lamp: str = Field(description="good, working, trouble or off")
    note: str
    at: datetime | None
    after_ms: float | None = Field(description="Since the hop before")


class TraceOfferOut(Schema):
    repair: str
    target: str
    params: dict[str, Any]
    button: str
    repair_class: str = Field(alias="class")


class TraceOut(Schema):
    """Where a message stopped, and the one repair of that hop. Run it with `POST /repairs/{repair}`."""

    agent: int | None
    message: int | None
    sentence: str
    red_hop: str | None
    hops: list[TraceHopOut]
    offer: TraceOfferOut | None


@router.get("/{message_id}", response=TraceOut, operation_id="traces_message", summary="Why is this message silent")
def traces_message(request: HttpRequest, message_id: Id) -> HttpResponse:
    return _trace("messages", message_id)


@router.get(
    "/{kind}/{row_id}", response=TraceOut, operation_id="traces_of", summary="Why is this agent, room or message silent"
)
def traces_of(request: HttpRequest, kind: Literal["agents", "rooms", "messages"], row_id: Id) -> HttpResponse:
    """Of an agent or a room the message is judged that waits longest, else the last one."""
    return _trace(kind, row_id)


def _trace(kind: str, row_id: int) -> HttpResponse:
    row = _KINDS[kind].objects.filter(pk=row_id).first()
    if row is None:
        raise not_found(kind.removesuffix("s"), row_id)
    return answer(diagnose(row).to_dict())
