"""Conversations out of here, and into here."""

from __future__ import annotations

from typing import Any, BinaryIO, Literal, cast
from uuid import UUID

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.http import content_disposition_header
from ninja import Field, File, Query, Router, Schema
from ninja.files import UploadedFile

from chat.access.grants import NotYours, membership_at
from chat.api.people.auth import caller_of
from chat.attachments.names import clean_name
from chat.models import Person
from chat.services.exports import KIND, export_path, export_start, html_pieces, json_pieces, markdown_pieces
from chat.services.imports import import_file
from ops.api.answers import answer
from ops.models import Job, JobState
from ops.streams import SANDBOX, send_file

router = Router(tags=["Portal: export and import"])

_FORMATS = {
    "json": (json_pieces, "application/json"),
    "md": (markdown_pieces, "text/markdown"),
    "html": (html_pieces, "text/html"),
}


class ExportFormat(Schema):
    format: Literal["json", "md", "html"] = Field("json", description="`json` is complete and can be imported.")


class ExportOut(Schema):
    """An export of everything. `url` is there once it is ready, for a day."""

    id: str
    state: str = Field(description="queued, running, succeeded, failed or cancelled")
    done: int
    total: int
    error: str
    url: str | None


class ImportOut(Schema):
    conversations: int
    messages: int
    repeated: int = Field(description="Conversations that were here already.")
    findings: list[str] = Field(description="What was left out, and why.")


def _export(job: Job) -> dict[str, Any]:
    ready = job.state == JobState.SUCCEEDED and export_path(job).exists()
    state = str(job.state)
    return {
        "id": str(job.pk),
        "state": state if ready or state != JobState.SUCCEEDED else "failed",
        "done": job.progress_done,
        "total": job.progress_total,
        "error": job.error or ("" if ready or not job.is_final else "The file is gone; export again."),
        "url": f"/api/v1/chat/export/{job.pk}/file" if ready else None,
    }


def _job(person: Person, job_id: UUID) -> Job:
    job = Job.objects.filter(pk=job_id, kind=KIND, params__person_id=person.pk).first()
    if job is None:
        raise NotYours(f"There is no export {job_id}.")
    return job


@router.get(
    "/conversations/{conversation_id}/export",
    response={200: bytes},
    operation_id="chat_export_one",
    summary="Save a conversation",
)
def export_one(request: HttpRequest, conversation_id: int, query: Query[ExportFormat]) -> HttpResponseBase:
    """`json` has all branches, tools and references to files; `md` and `html` the branch that is shown."""
    conversation = membership_at(caller_of(request).person, conversation_id).conversation
    pieces, media_type = _FORMATS[query.format]
    name = clean_name(f"{conversation.title or 'Conversation'}.{query.format}")
    response = HttpResponse("".join(pieces(conversation)), content_type=f"{media_type}; charset=utf-8")
    response.headers["Content-Disposition"] = content_disposition_header(True, name) or "attachment"
    response.headers["Content-Security-Policy"] = SANDBOX
    response.headers["Cache-Control"] = "private, no-store"
    return response


@router.post(
    "/export", response={202: ExportOut}, operation_id="chat_export", summary="Collect all one's conversations"
)
def export_all(request: HttpRequest) -> HttpResponse:
    """As JSON, Markdown and HTML in one ZIP, with the files that were sent. Ask `export/{id}` until it has a `url`."""
    caller = caller_of(request)
    return answer(_export(export_start(person=caller.person, actor=caller.actor)), status=202)


@router.get("/export/{job_id}", response=ExportOut, operation_id="chat_export_state", summary="How far an export is")
def export_state(request: HttpRequest, job_id: UUID) -> HttpResponse:
    return answer(_export(_job(caller_of(request).person, job_id)))


@router.get(
    "/export/{job_id}/file", response={200: bytes}, operation_id="chat_export_file", summary="Save the whole export"
)
def export_file(request: HttpRequest, job_id: UUID) -> HttpResponseBase:
    """For a day."""
    job = _job(caller_of(request).person, job_id)
    place = export_path(job)
    try:
        size, file = place.stat().st_size, place.open("rb")
    except FileNotFoundError:
        raise NotYours(f"There is no export {job_id}.") from None
    name = f"conversations {job.created_at:%Y-%m-%d}.zip"
    return send_file(
        request, file, size=size, etag=str(job.pk), name=name, media_type="application/zip", cache="no-store"
    )


@router.post("/import", response=ImportOut, operation_id="chat_import", summary="Bring conversations in")
def import_all(request: HttpRequest, file: UploadedFile = File(...)) -> HttpResponse:
    """`multipart/form-data` with one field, `file`: JSON or ZIP exported here, ChatGPT's `conversations.json` or its ZIP, Open WebUI's chats.
    The same twice changes nothing."""
    caller = caller_of(request)
    report = import_file(person=caller.person, file=cast("BinaryIO", file.file), actor=caller.actor)
    return answer(
        {
            "conversations": report.conversations,
            "messages": report.messages,
            "repeated": report.repeated,
            "findings": report.findings[:200],
        }
    )
