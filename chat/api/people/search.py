"""Search over titles and texts of one's own conversations."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router, Schema

from chat.api.people.auth import caller_of
from chat.api.people.cursors import cursor_link, cursor_values
from chat.models import Person
from chat.search.find import find_messages, find_titles, shown_of
from chat.search.snippets import pieces
from chat.search.wish import LONGEST, read_wish
from ops.api.answers import answer
from ops.api.inputs import Text

router = Router(tags=["Portal: search"])
_KIND = "search"


class SearchFilter(Schema):
    q: Text = Field(
        max_length=LONGEST,
        description=(
            'Terms (`"of several words"` in quotes), and conditions: `agent:ada`, `pinned:yes`, `archived:no`, `before:2026-01-31`, '
            "`after:`, `on:`, `from:me`, `from:agent`."
        ),
        examples=["agent:ada after:2026-01-01 invoice"],
    )
    limit: int = Field(25, ge=1, le=100)
    cursor: str = Field("", max_length=1000)


class PieceOut(Schema):
    text: str
    mark: bool


class TitleFoundOut(Schema):
    conversation: int
    title: list[PieceOut]
    agent: str
    archived: bool
    last_message_at: datetime | None


class TextFoundOut(Schema):
    """A message. Where `shown` is false it is a version beside the branch that is shown: `messages/{id}/show` changes to it."""

    message: int
    seq: int
    conversation: int
    title: str
    role: str
    sender: str
    said_at: datetime
    shown: bool
    snippet: list[PieceOut]


class SearchOut(Schema):
    """`titles` come with the first page. A page may hold less than `limit` (or nothing) and still have a `next`: there is more to look
    through."""

    titles: list[TitleFoundOut]
    items: list[TextFoundOut]
    next: str | None


def zone_of(person: Person) -> ZoneInfo:
    """The zone in which a person counts days."""
    try:
        return ZoneInfo(person.time_zone or "UTC")
    except (ValueError, OSError):
        return ZoneInfo("UTC")


@router.get("/search", response=SearchOut, operation_id="chat_search", summary="Search what was said")
def search(request: HttpRequest, query: Query[SearchFilter]) -> HttpResponse:
    """Newest first; within words too. All terms have to be there and all conditions met."""
    person = caller_of(request).person
    wish = read_wish(query.q, zone_of(person))
    values = cursor_values(query.cursor, _KIND, (int,))
    found = find_messages(person, wish, below=values[0] if values else None, limit=query.limit)
    shown = shown_of(found.messages)
    titles: list[dict[str, Any]] = [
        {
            "conversation": row.conversation_id,
            "title": pieces(row.conversation.title, wish.terms),
            "agent": row.conversation.agent.name if row.conversation.agent else "",
            "archived": row.archived_at is not None,
            "last_message_at": row.conversation.last_message_at,
        }
        for row in (find_titles(person, wish) if values is None else ())
    ]
    items: list[dict[str, Any]] = [
        {
            "message": row.pk,
            "seq": row.seq,
            "conversation": row.conversation_id,
            "title": row.conversation.title,
            "role": row.role,
            "sender": row.sender.name or row.sender.external_id,
            "said_at": row.said_at or row.received_at,
            "shown": row.pk in shown,
            "snippet": pieces(row.text, wish.terms),
        }
        for row in found.messages
    ]
    link = cursor_link(request, _KIND, (found.below,)) if found.below is not None else None
    return answer({"titles": titles, "items": items, "next": link})
