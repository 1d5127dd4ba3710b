"""Turns: answers in the making, and those that failed."""

from __future__ import annotations

import re

from asgiref.sync import sync_to_async
from django.db import connection
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from ninja import Field, Query, Router, Schema
from pydantic import ConfigDict

from chat.api.render import turn_dict
from chat.api.schemas import TurnList, TurnOut, TurnTextOut
from chat.api.stream import TurnStream
from chat.models import Turn, TurnState
from chat.services.turns import turn_cancel, turn_discard, turn_retry
from chat.turns.follow import read_row
from ops.api.answers import answer
from ops.api.inputs import LARGEST_ID, Id
from ops.api.paging import Paging, page
from ops.api.principals import principal_of
from ops.api.problems import not_found

router = Router(tags=["Turns"])

_LAST_EVENT = re.compile(r"(\d{1,9}):(\d{1,9})\Z")


class TurnFilter(Paging):
    state: TurnState | None = Field(None, description="For example failed, timed_out, dead.")
    agent: int | None = Field(None, ge=1, le=LARGEST_ID)
    conversation: int | None = Field(None, ge=1, le=LARGEST_ID)


class From(Schema):
    model_config = ConfigDict(populate_by_name=True)

    start: int = Field(0, alias="from", ge=0, le=10_000_000, description="The offset to begin at, in code points.")


def _rows() -> QuerySet[Turn]:
    return Turn.objects.select_related("agent").defer("partial", "partial_parts")


def _turn(turn_id: int) -> Turn:
    turn = _rows().filter(pk=turn_id).first()
    if turn is None:
        raise not_found("turn", turn_id)
    return turn


@router.get("", response=TurnList, operation_id="turns_list", summary="List turns, newest first")
def turns_list(request: HttpRequest, query: Query[TurnFilter]) -> HttpResponse:
    rows = _rows()
    if query.state:
        rows = rows.filter(state=query.state)
    if query.agent is not None:
        rows = rows.filter(agent_id=query.agent)
    if query.conversation is not None:
        rows = rows.filter(conversation_id=query.conversation)
    return page(request, rows, query, render=turn_dict, order=("-id",))


@router.get("/{turn_id}", response=TurnOut, operation_id="turns_get", summary="Get a turn")
def turns_get(request: HttpRequest, turn_id: Id) -> HttpResponse:
    return answer(turn_dict(_turn(turn_id)))


@router.post("/{turn_id}/cancel", response={202: TurnOut}, operation_id="turns_cancel", summary="Stop an answer")
def turns_cancel(request: HttpRequest, turn_id: Id) -> HttpResponse:
    """One that waits ends at once; one that runs is stopped by its worker, upstream as well. Does nothing for one that is over."""
    return answer(turn_dict(turn_cancel(turn=_turn(turn_id), actor=principal_of(request).actor)), status=202)


@router.post(
    "/{turn_id}/retry",
    response={202: TurnOut},
    operation_id="turns_retry",
    summary="Have a failed turn answered after all",
)
def turns_retry(request: HttpRequest, turn_id: Id) -> HttpResponse:
    return answer(turn_dict(turn_retry(turn=_turn(turn_id), actor=principal_of(request).actor)), status=202)


@router.post("/{turn_id}/discard", response=TurnOut, operation_id="turns_discard", summary="Let a failed turn be")
def turns_discard(request: HttpRequest, turn_id: Id) -> HttpResponse:
    return answer(turn_dict(turn_discard(turn=_turn(turn_id), actor=principal_of(request).actor)))


@router.get(
    "/{turn_id}/text", response=TurnTextOut, operation_id="turns_text", summary="The text of an answer, from an offset"
)
def turns_text(request: HttpRequest, turn_id: Id, query: Query[From]) -> HttpResponse:
    """What there is by now; ask again from `length`, or follow the stream."""
    row = read_row(turn_id)
    if row is None:
        raise not_found("turn", turn_id)
    return answer(
        {
            "turn": turn_id,
            "state": row.state,
            "attempt": row.fence,
            "from": query.start,
            "text": row.shown[query.start :],
            "length": len(row.shown),
            "final": row.final,
        }
    )


@router.get(
    "/{turn_id}/stream",
    response={200: None},
    operation_id="turns_stream",
    summary="Follow an answer (server-sent events)",
    openapi_extra={
        "responses": {
            200: {
                "description": "Events `turn`, `delta`, `part`, `reasoning`, `reset` and `error`; see docs/api.md.",
                "content": {
                    "text/event-stream": {
                        "schema": {"type": "string"},
                        "example": 'event: delta\nid: 1:5\ndata: {"turn":7,"offset":0,"text":"Hello"}\n\n',
                    }
                },
            }
        }
    },
)
async def turns_stream(request: HttpRequest, turn_id: Id, query: Query[From]) -> StreamingHttpResponse:
    """Begins at `from` (or behind `Last-Event-ID`), follows the answer as it is written, and ends with its final state.

    The texts of all `delta` events behind the last `reset`, put together, are the answer: nothing is missing, nothing is twice.
    """
    start, fence = query.start, None
    resumed = _LAST_EVENT.match(request.headers.get("Last-Event-ID", ""))
    if resumed:
        fence, start = int(resumed[1]), int(resumed[2])
    conversation_id = await sync_to_async(_conversation_of)(turn_id)
    if conversation_id is None:
        raise not_found("turn", turn_id)
    stream = TurnStream(
        turn_id, conversation_id, start=start, fence=fence, still_allowed=principal_of(request).is_still_valid
    )
    response = StreamingHttpResponse(stream.events(), content_type="text/event-stream; charset=utf-8")
    response.headers["Cache-Control"] = "no-cache, no-transform"
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _conversation_of(turn_id: int) -> int | None:
    found = Turn.objects.filter(pk=turn_id).values_list("conversation_id", flat=True).first()
    # The stream stays open for long and reads elsewhere: this thread's connection would be kept for nothing.
    if not connection.in_atomic_block:
        connection.close()
    return found
