"""Conversations."""

from __future__ import annotations

from typing import Literal

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router

from agents.api.agents import agent_of
from agents.models import Agent
from chat.api.problems import NO_AGENT
from chat.api.render import agent_id_in, conversation_dict, message_dict, participant_dict
from chat.api.schemas import ConversationDetailOut, ConversationList, ConversationOut, MessageList, SentOut
from chat.api.sending import MessageIn, say
from chat.models import Conversation, Link, Message
from chat.services.messages import conversation_open
from ops.api.answers import answer
from ops.api.inputs import LARGEST_ID, Body, Id, Text
from ops.api.paging import Paging, page
from ops.api.principals import principal_of
from ops.api.problems import FieldError, Problem, not_found

router = Router(tags=["Conversations"])


class ConversationFilter(Paging):
    agent: int | None = Field(None, ge=1, le=LARGEST_ID, description="Only those in which this agent answers.")


class ConversationIn(Body):
    agent: int = Field(ge=1, le=LARGEST_ID, examples=[7])
    title: Text = Field("", max_length=255, examples=["Ticket 4711"])


class MessageFilter(Paging):
    order: Literal["asc", "desc"] = Field("asc", description="Oldest first, or newest first.")


class ConversationMessageIn(MessageIn):
    agent: int | None = Field(None, ge=1, le=LARGEST_ID, description="Where no agent answers by itself.")


def _rows() -> QuerySet[Conversation]:
    return Conversation.objects.prefetch_related("links__room__mapping")


def conversation_at(conversation_id: int) -> Conversation:
    """The conversation with its links. Raises ``Problem``."""
    conversation = _rows().filter(pk=conversation_id).first()
    if conversation is None:
        raise not_found("conversation", conversation_id)
    return conversation


@router.get(
    "", response=ConversationList, operation_id="conversations_list", summary="List conversations, newest first"
)
def conversations_list(request: HttpRequest, query: Query[ConversationFilter]) -> HttpResponse:
    rows = _rows()
    if query.agent is not None:
        here = Q(room__mapping__agent_id=query.agent) | Q(address=f"agent:{query.agent}")
        here |= Q(address__startswith=f"agent:{query.agent}:")
        rows = rows.filter(Exists(Link.objects.filter(here, conversation_id=OuterRef("pk"))))
    return page(request, rows, query, render=conversation_dict, order=("-id",))


@router.post("", response={201: ConversationOut}, operation_id="conversations_create", summary="Open a conversation")
def conversations_create(request: HttpRequest, body: ConversationIn) -> HttpResponse:
    """A conversation of its own, apart from the agent's room: only API callers reach it."""
    agent = Agent.objects.filter(pk=body.agent).first()
    if agent is None:
        sentence = f"There is no agent {body.agent}."
        raise Problem(NO_AGENT, sentence, errors=[FieldError("agent", sentence)])
    made = conversation_open(agent=agent, title=body.title, actor=principal_of(request).actor)
    return answer(conversation_dict(conversation_at(made.pk)), status=201)


@router.get(
    "/{conversation_id}", response=ConversationDetailOut, operation_id="conversations_get", summary="Get a conversation"
)
def conversations_get(request: HttpRequest, conversation_id: Id) -> HttpResponse:
    conversation = conversation_at(conversation_id)
    people = [participant_dict(row) for row in conversation.participants.order_by("pk")[:1000]]
    return answer({**conversation_dict(conversation), "participants": people})


@router.get(
    "/{conversation_id}/messages",
    response=MessageList,
    operation_id="conversations_messages",
    summary="List its messages",
)
def conversations_messages(request: HttpRequest, conversation_id: Id, query: Query[MessageFilter]) -> HttpResponse:
    rows = Message.objects.filter(conversation=conversation_at(conversation_id)).select_related("sender")
    return page(request, rows, query, render=message_dict, order=("-seq",) if query.order == "desc" else ("seq",))


@router.post(
    "/{conversation_id}/messages",
    response={202: SentOut},
    operation_id="conversations_send",
    summary="Say something in it",
)
def conversations_send(request: HttpRequest, conversation_id: Id, body: ConversationMessageIn) -> HttpResponse:
    """The agent that answers in the conversation answers; where there is none, name one."""
    conversation = conversation_at(conversation_id)
    agent_id = body.agent or agent_id_in(conversation)
    if agent_id is None:
        sentence = "No agent answers in this conversation by itself; name one."
        raise Problem(NO_AGENT, sentence, errors=[FieldError("agent", sentence)])
    return say(request, agent=agent_of(agent_id), body=body, conversation=conversation)
