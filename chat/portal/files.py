"""``/files/<uuid>``: what people sent, for whoever is in the conversation."""

from __future__ import annotations

from uuid import UUID

from django.contrib.auth.views import redirect_to_login
from django.db.models import Exists, OuterRef, Q
from django.http import HttpRequest, HttpResponseBase
from django.views.decorators.http import require_safe

from chat.access.grants import memberships_of
from chat.api.people.auth import Caller, PersonBearer, PersonSession
from chat.models import Attachment, Person
from chat.services.attachments import open_content
from ops.api.problems import Problem, not_found, problem_response
from ops.streams import send_file


@require_safe
def file_get(request: HttpRequest, attachment_id: UUID) -> HttpResponseBase:
    """The content. 404 for everybody who is not in its conversation, whether it exists or not."""
    try:
        caller = _caller(request)
        found = file_of(caller.person, attachment_id)
        if found is None:
            raise not_found("file", attachment_id)
        return answer_with(request, found)
    except Problem as problem:
        if problem.code.status == 401 and "text/html" in request.headers.get("Accept", ""):
            return redirect_to_login(request.get_full_path())
        return problem_response(request, problem)


def _caller(request: HttpRequest) -> Caller:
    return PersonBearer()(request) or PersonSession()(request)


def file_of(person: Person, attachment_id: UUID) -> Attachment | None:
    """An attachment in one of the person's conversations, or one that they have not sent yet."""
    member = Exists(
        memberships_of(person).select_related(None).filter(conversation_id=OuterRef("message__conversation"))
    )
    mine = Q(owner=person, message=None) | (Q(message__isnull=False) & Q(member))
    return Attachment.objects.filter(mine, pk=attachment_id).first()


def answer_with(request: HttpRequest, found: Attachment, *, cache: str = "private, no-cache") -> HttpResponseBase:
    """The file's content. Raises ``Problem`` when it is gone from the disk."""
    try:
        file = open_content(found)
    except FileNotFoundError:
        raise not_found("file", found.pk) from None
    return send_file(
        request,
        file,
        size=found.size,
        etag=found.sha256,
        name=found.name,
        media_type=found.media_type,
        inline=found.is_image,
        cache=cache,
    )
