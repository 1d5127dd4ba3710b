"""Files: what may be sent, and sending them."""

from __future__ import annotations

from typing import Any, BinaryIO, cast
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Field, File, Router, Schema
from ninja.files import UploadedFile

from chat.access.grants import NotYours
from chat.api.people.auth import caller_of
from chat.api.people.render import attachment_json
from chat.api.people.schemas import AttachmentOut
from chat.attachments.kinds import KINDS
from chat.attachments.pictures import MOST_PIXELS
from chat.models import Attachment
from chat.services.attachments import attachment_discard, attachment_store, largest_bytes, too_large
from chat.services.messages import MOST_ATTACHMENTS
from ops.api.answers import answer, nothing

router = Router(tags=["Portal: files"])
# What multipart adds around a file.
_AROUND = 64 * 1024


class KindOut(Schema):
    media_type: str
    label: str
    suffixes: list[str]


class LimitsOut(Schema):
    """What may be sent. Show it before somebody chooses a file."""

    max_bytes: int
    max_files: int = Field(description="With one message.")
    max_pixels: int
    kinds: list[KindOut]


@router.get("/attachments", response=LimitsOut, operation_id="chat_attachment_limits", summary="What may be sent")
def limits(request: HttpRequest) -> HttpResponse:
    kinds: list[dict[str, Any]] = [
        {"media_type": kind.media_type, "label": kind.label, "suffixes": list(kind.suffixes)} for kind in KINDS
    ]
    return answer(
        {
            "max_bytes": largest_bytes(),
            "max_files": MOST_ATTACHMENTS,
            "max_pixels": MOST_PIXELS,
            "kinds": kinds,
        }
    )


@router.post(
    "/attachments",
    response={201: AttachmentOut},
    operation_id="chat_attachment_upload",
    summary="Upload a file that is to be sent",
)
def upload(request: HttpRequest, file: UploadedFile = File(...)) -> HttpResponse:
    """`multipart/form-data` with one field, `file`. Name it in `attachments` of a message within a day. Pictures come out upright and
    without their metadata."""
    caller = caller_of(request)
    if int(request.META.get("CONTENT_LENGTH") or 0) > largest_bytes() + _AROUND:
        raise too_large()
    content = cast("BinaryIO", file.file)
    made = attachment_store(person=caller.person, file=content, name=file.name or "", actor=caller.actor)
    return answer(attachment_json(made), status=201)


@router.delete(
    "/attachments/{attachment_id}",
    response={204: None},
    operation_id="chat_attachment_discard",
    summary="Remove a file that was not sent",
)
def discard(request: HttpRequest, attachment_id: UUID) -> HttpResponse:
    caller = caller_of(request)
    found = Attachment.objects.filter(pk=attachment_id, owner=caller.person, message=None).first()
    if found is None:
        raise NotYours(f"There is no file {attachment_id} that waits to be sent.")
    attachment_discard(attachment=found, actor=caller.actor)
    return nothing()
