"""All routers of the people's API. Each is open to people only; an operator's token is worth nothing here."""

from __future__ import annotations

from ninja import Router

from chat.api.people import agents, attachments, conversations, me, messages, rooms, search, shares, transfer, versions
from chat.api.people.auth import PersonBearer, PersonSession

PREFIX = "v1/chat"

ROUTERS: tuple[Router, ...] = (
    agents.router,
    me.router,
    conversations.router,
    messages.router,
    versions.router,
    attachments.router,
    search.router,
    rooms.router,
    shares.router,
    transfer.router,
)


def auth() -> list[PersonBearer | PersonSession]:
    """In this order: a token is asked first, the session says how to get in."""
    return [PersonBearer(), PersonSession()]
