"""Imports of mappings: read files, compare, decide, apply, and get back what could not be taken."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router, Schema
from pydantic import ValidationError

from agents.api.schemas import FindingOut
from agents.importing.report import row_dict
from agents.models import ImportAction, ImportChoice, ImportState, MappingImport, MappingImportRow
from agents.services.import_preparing import import_prepare
from agents.services.imports import ImportRefused, import_choose, import_discard, import_rejects
from ops.api.answers import answer, nothing
from ops.api.inputs import Body, Id, Text
from ops.api.jobs import job_dict
from ops.api.paging import Paging, page
from ops.api.principals import principal_of
from ops.api.problems import AUTH_SCOPE, REQUEST_INVALID, FieldError, Problem, not_found
from ops.api.schemas import JobOut
from ops.models import JobTrigger, TokenScope
from ops.services.jobs import job_start

router = Router(tags=["Imports"])

JOB = "agents.import"


class ImportFileIn(Body):
    """A file: its text, or its bytes as Base64."""

    name: Text = Field("file.json", max_length=255)
    text: Text = Field("", description="What is in it. May be broken JSON: whole records are taken all the same.")
    base64: Text = Field("", description="Its bytes, for an SQLite database.")

    def data(self) -> bytes:
        """The file's bytes. Raises ``Problem``."""
        if not self.base64:
            return self.text.encode()
        try:
            return base64.b64decode(self.base64, validate=True)
        except (binascii.Error, ValueError):
            raise Problem(
                REQUEST_INVALID, "This is no Base64.", errors=[FieldError("files.base64", "This is no Base64.")]
            ) from None


class ImportIn(Body):
    files: list[ImportFileIn] = Field(default=[], max_length=50)
    database_url: Text = Field("", description="`postgresql://…` of the predecessor's database. It is not stored.")
    service: Text = Field("", description="The service on which the agents live, where that is not plain.")
    prefer: Text = Field("", description="Decide every conflict so: stored, file or homeserver.")


class ChoiceIn(Body):
    choice: ImportChoice = Field(description="stored, file, homeserver; empty takes a decision back.")
    rows: list[int] | None = Field(
        None, max_length=10_000, description="Ids of rows; all open conflicts when left out."
    )


class ImportFilter(Paging):
    state: ImportState | None = None


class RowFilter(Paging):
    action: ImportAction | None = None
    kind: Text = Field("", description="mapping, space, identity, direct_room, conversation, request, broken, …")
    open: bool | None = Field(None, description="Only conflicts that wait for a decision, or all but those.")
    result: Text = Field("", description="done, kept or failed")


class SourceOut(Schema):
    name: str
    kind: str
    size: int
    sha256: str
    records: int
    problems: int


class ImportOut(Schema):
    """An import. `counts` has a number for each action; `findings` concern files as a whole, with line and column."""

    id: int
    state: str = Field(description="planned, applying, done, failed or discarded")
    actor: str
    sources: list[SourceOut]
    counts: dict[str, int]
    findings: list[FindingOut]
    error: str
    created_at: datetime
    applied_at: datetime | None


class ImportList(Schema):
    items: list[ImportOut]
    next: str | None


class ImportRowOut(Schema):
    """One record. Of a conflict the three sides `stored`, `file` and `homeserver` have the same keys; an empty one is not known."""

    id: int
    number: int
    source: str
    line: int | None
    kind: str
    key: str
    label: str
    action: str = Field(description="create, update, unchanged, conflict or reject")
    code: str
    sentence: str
    stored: dict[str, Any]
    file: dict[str, Any]
    homeserver: dict[str, Any]
    choice: str
    result: str = Field(description="done, kept or failed; empty before it is applied")
    result_sentence: str
    target: str = Field(examples=["mapping:12"])


class ImportRowList(Schema):
    items: list[ImportRowOut]
    next: str | None


class ChosenOut(Schema):
    decided: int


def import_dict(run: MappingImport) -> dict[str, Any]:
    """An import as JSON, without its rows."""
    return {
        "id": run.pk,
        "state": run.state,
        "actor": run.actor,
        "sources": run.sources,
        "counts": run.counts,
        "findings": run.findings,
        "error": run.error,
        "created_at": run.created_at,
        "applied_at": run.applied_at,
    }


def _inlined(schema: type[Schema]) -> dict[str, Any]:
    """The JSON Schema without references: the operation reads its body itself, so the description does not know its parts."""
    found = schema.model_json_schema()
    parts = found.pop("$defs", {})

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            name = str(value.get("$ref", "")).rpartition("/")[2]
            return filled(parts[name]) if name else {key: filled(one) for key, one in value.items()}
        return [filled(one) for one in value] if isinstance(value, list) else value

    return dict(filled(found))


def _run(import_id: int) -> MappingImport:
    run = MappingImport.objects.filter(pk=import_id).first()
    if run is None:
        raise not_found("import", import_id)
    return run


@router.post(
    "",
    response={201: ImportOut},
    operation_id="imports_create",
    summary="Read files and compare; nothing changes",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _inlined(ImportIn)},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
                            "database_url": {"type": "string"},
                            "service": {"type": "string"},
                            "prefer": {"type": "string"},
                        },
                    }
                },
            },
        }
    },
)
def imports_create(request: HttpRequest) -> HttpResponse:
    """JSON or multipart. Any of Letta-Matrix's files, in one request or one after the other; what a file is, is seen from its content.

    Whole records of a broken file are taken, the rest is named with line and column. Look at the rows, decide conflicts, then apply.
    """
    body, files = _asked(request)
    run = import_prepare(
        files=files,
        database_url=_address(body.database_url),
        service_name=body.service,
        prefer=body.prefer,
        actor=principal_of(request).actor,
    )
    return answer(import_dict(run), status=201)


def _asked(request: HttpRequest) -> tuple[ImportIn, list[tuple[str, bytes]]]:
    multipart = request.content_type == "multipart/form-data"
    try:
        if multipart:
            body = ImportIn.model_validate({key: request.POST[key] for key in request.POST if key != "files"})
        else:
            body = ImportIn.model_validate_json(request.body or b"{}")
    except ValidationError as error:
        raise Problem(
            REQUEST_INVALID,
            "The request is not an import; see `errors`.",
            errors=[FieldError(".".join(map(str, one["loc"])), one["msg"]) for one in error.errors()],
        ) from None
    files = [(one.name, one.data()) for one in body.files]
    if multipart:
        files += [(one.name or "file", one.read()) for one in request.FILES.getlist("files")]
    return body, files


def _address(url: str) -> str:
    """Only a server's address: a path on this machine is for those who have an account on it."""
    if url and not url.startswith(("postgresql://", "postgres://", "postgresql+")):
        sentence = "Give a postgresql:// address; upload an SQLite database as a file."
        raise Problem(REQUEST_INVALID, sentence, errors=[FieldError("database_url", sentence)])
    return url


@router.get("", response=ImportList, operation_id="imports_list", summary="List imports, newest first")
def imports_list(request: HttpRequest, query: Query[ImportFilter]) -> HttpResponse:
    rows = MappingImport.objects.all()
    if query.state:
        rows = rows.filter(state=query.state)
    return page(request, rows, query, render=import_dict, order=("-id",))


@router.get("/{import_id}", response=ImportOut, operation_id="imports_get", summary="Get an import")
def imports_get(request: HttpRequest, import_id: Id) -> HttpResponse:
    return answer(import_dict(_run(import_id)))


@router.get("/{import_id}/rows", response=ImportRowList, operation_id="imports_rows", summary="List an import's rows")
def imports_rows(request: HttpRequest, import_id: Id, query: Query[RowFilter]) -> HttpResponse:
    rows = MappingImportRow.objects.filter(run=_run(import_id)).defer("record")
    if query.action:
        rows = rows.filter(action=query.action)
    if query.kind:
        rows = rows.filter(kind=query.kind)
    if query.result:
        rows = rows.filter(result=query.result)
    if query.open is not None:
        undecided = {"action": ImportAction.CONFLICT, "choice": ImportChoice.NONE}
        rows = rows.filter(**undecided) if query.open else rows.exclude(**undecided)
    return page(request, rows, query, render=row_dict, order=("number",))


@router.patch("/{import_id}", response=ChosenOut, operation_id="imports_choose", summary="Decide conflicts")
def imports_choose(request: HttpRequest, import_id: Id, body: ChoiceIn) -> HttpResponse:
    """Which side counts: for the rows that are named, or for all open conflicts for which that side is known."""
    decided = import_choose(run=_run(import_id), rows=body.rows, choice=body.choice, actor=principal_of(request).actor)
    return answer({"decided": decided})


@router.post("/{import_id}/apply", response={202: JobOut}, operation_id="imports_apply", summary="Apply an import")
def imports_apply(request: HttpRequest, import_id: Id) -> HttpResponse:
    """202 with a job to follow. Undecided conflicts are left alone; rows that failed are tried again. May be repeated."""
    run = _run(import_id)
    if run.state == ImportState.DISCARDED:
        raise ImportRefused("This import was discarded. Read the files again.")
    job = job_start(
        kind=JOB,
        actor=principal_of(request).actor,
        trigger=JobTrigger.API,
        params={"run": run.pk},
        once=True,
    )
    return answer(job_dict(job), status=202)


@router.get(
    "/{import_id}/rejects",
    response={200: dict[str, Any]},
    operation_id="imports_rejects",
    summary="What could not be taken, as a file that can be imported again",
)
def imports_rejects(request: HttpRequest, import_id: Id) -> HttpResponse:
    """Needs a token that may write: the records may hold passwords."""
    if principal_of(request).scope != TokenScope.WRITE:
        raise Problem(AUTH_SCOPE, "Rejected records may hold passwords. Make a token with the scope 'write' for this.")
    response = HttpResponse(import_rejects(_run(import_id)), content_type="application/json")
    response.headers["Content-Disposition"] = f'attachment; filename="rejects-{import_id}.json"'
    response.headers["Cache-Control"] = "no-store"
    return response


@router.delete("/{import_id}", response={204: None}, operation_id="imports_discard", summary="Discard an import")
def imports_discard(request: HttpRequest, import_id: Id) -> HttpResponse:
    """Its records and secrets are forgotten. What was taken over stays."""
    import_discard(run=_run(import_id), actor=principal_of(request).actor)
    return nothing()
