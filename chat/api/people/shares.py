"""Links by which others may read a conversation."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router, Schema

from chat.access.grants import NotYours, membership_at
from chat.api.people.auth import caller_of
from chat.models import ShareLink
from chat.services.shares import share_create, share_revoke, shares_end
from ops.api.answers import answer, answer_once_shown, nothing
from ops.api.inputs import LARGEST_ID, Body, Id

router = Router(tags=["Portal: sharing"])


class ShareIn(Body):
    expires_in_days: int | None = Field(None, ge=1, le=3650, description="Until it is ended when left out.")


class ShareWhich(Schema):
    id: int | None = Field(None, ge=1, le=LARGEST_ID, description="Only this one; all of one's own when left out.")


class ShareOut(Schema):
    """A link. Its address is shown once, when it is made; `hint` is how it begins."""

    id: int
    hint: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    views: int


class ShareMadeOut(ShareOut):
    url: str = Field(description="Shown this once.")


class ShareList(Schema):
    items: list[ShareOut]


def _share(row: ShareLink) -> dict[str, Any]:
    names = ("id", "hint", "created_at", "expires_at", "revoked_at", "views")
    return {name: getattr(row, name) for name in names}


@router.get(
    "/conversations/{conversation_id}/share",
    response=ShareList,
    operation_id="chat_shares",
    summary="List one's links to a conversation, newest first",
)
def shares(request: HttpRequest, conversation_id: Id) -> HttpResponse:
    membership = membership_at(caller_of(request).person, conversation_id)
    rows = ShareLink.objects.filter(conversation=conversation_id, created_by=membership.person_id)
    return answer({"items": [_share(row) for row in rows[:100]]})


@router.post(
    "/conversations/{conversation_id}/share",
    response={201: ShareMadeOut},
    operation_id="chat_share",
    summary="Make a link by which anybody may read the conversation as it is now",
)
def share(request: HttpRequest, conversation_id: Id, body: ShareIn) -> HttpResponse:
    """The branch that is shown, up to what was said last; what is said later stays private."""
    caller = caller_of(request)
    membership = membership_at(caller.person, conversation_id)
    link, token = share_create(membership=membership, expires_in_days=body.expires_in_days, actor=caller.actor)
    return answer_once_shown({**_share(link), "url": f"/shared/{token}"}, status=201)


@router.delete(
    "/conversations/{conversation_id}/share",
    response={204: None},
    operation_id="chat_share_end",
    summary="End a link, or all of one's own to the conversation",
)
def share_end(request: HttpRequest, conversation_id: Id, query: Query[ShareWhich]) -> HttpResponse:
    """At once."""
    caller = caller_of(request)
    membership_at(caller.person, conversation_id)
    if query.id is None:
        shares_end(conversation_id=conversation_id, person_id=caller.person.pk, actor=caller.actor)
        return nothing()
    link = (
        ShareLink.objects.filter(pk=query.id, conversation=conversation_id, created_by=caller.person)
        .select_related("conversation")
        .first()
    )
    if link is None:
        raise NotYours(f"There is no link {query.id} of yours to this conversation.")
    share_revoke(link=link, actor=caller.actor)
    return nothing()
