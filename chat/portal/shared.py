"""``/shared/<token>``: a conversation that somebody lets others read, as it was. Made on the server, without scripts."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from chat.api.people.render import message_json
from chat.models import Attachment, MessageState, Role, ShareLink
from chat.portal.files import answer_with
from chat.portal.queries import branch_below
from chat.services.shares import share_find, share_viewed
from ops.api.problems import Problem, not_found, problem_response

# So much is on one page; `?before=` leads further back.
PAGE = 200


@never_cache
@require_safe
def shared(request: HttpRequest, token: str) -> HttpResponse:
    """The page; 404 for a link that does not exist, has ended or is switched off: nobody learns which."""
    link = share_find(token)
    if link is None:
        return _guarded(render(request, "portal/shared_closed.html", status=404))
    before = request.GET.get("before", "")
    rows, earlier = branch_below(
        link.head_id,
        through=link.through_seq,
        before=int(before) if before.isdecimal() and len(before) < 10 else None,
        limit=PAGE,
    )
    if not before and request.method == "GET":
        share_viewed(link=link)
    said = [_shown(one, token) for one in message_json(rows) if one["role"] != Role.NOTICE]
    context = {"link": link, "conversation": link.conversation, "said": said, "earlier": earlier}
    return _guarded(render(request, "portal/shared.html", context))


@never_cache
@require_safe
def shared_file(request: HttpRequest, token: str, attachment_id: UUID) -> HttpResponseBase:
    """A file of a message that the link shows."""
    try:
        link = share_find(token)
        found = _file_of(link, attachment_id) if link is not None else None
        if found is None:
            raise not_found("file", attachment_id)
        return answer_with(request, found, cache="private, no-store")
    except Problem as problem:
        return _guarded(problem_response(request, problem))


def _file_of(link: ShareLink, attachment_id: UUID) -> Attachment | None:
    found = Attachment.objects.filter(pk=attachment_id, message__conversation=link.conversation_id).first()
    if found is None or found.message_id is None:
        return None
    rows, _ = branch_below(link.head_id, through=link.through_seq, before=None, limit=None)
    return found if any(row.pk == found.message_id for row in rows) else None


def _shown(message: dict[str, Any], token: str) -> dict[str, Any]:
    """What strangers see: no names of persons' accounts, no tools, no reasoning, files by the link's own addresses."""
    files = [
        {**one, "url": reverse("portal-shared-file", args=[token, one["id"]]), "is_image": one["width"] is not None}
        for one in message["attachments"]
    ]
    return {
        "role": message["role"],
        "name": message["sender"]["name"],
        "text": message["text"],
        "html": message["html"],
        "said_at": message["said_at"],
        "taken_back": message["state"] == MessageState.REDACTED,
        "files": files,
    }


def _guarded(response: HttpResponse) -> HttpResponse:
    response.headers["X-Robots-Tag"] = "noindex, nofollow, noarchive"
    # The address is the secret: no page that is linked from here is told of it.
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
