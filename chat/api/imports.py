"""Moving over from other systems."""

from __future__ import annotations

from typing import Any, BinaryIO, cast

from django.http import HttpRequest, HttpResponse
from ninja import Field, File, Form, Router, Schema
from ninja.files import UploadedFile
from pydantic import ConfigDict

from agents.models import Agent
from chat.jobs import IMPORT
from chat.models import Person
from chat.portagent import folder
from chat.portagent.databases import NotPortagent
from ops.api.answers import answer
from ops.api.inputs import LARGEST_ID, Text
from ops.api.jobs import job_dict
from ops.api.principals import principal_of
from ops.api.problems import REQUEST_INVALID, FieldError, Problem, translate
from ops.api.schemas import JobOut
from ops.models import JobTrigger
from ops.services.jobs import job_start

router = Router(tags=["Imports"])

translate(NotPortagent, lambda error: Problem(REQUEST_INVALID, str(error), errors=[FieldError("path", str(error))]))


class PortagentIn(Schema):
    model_config = ConfigDict(extra="forbid")

    path: Text = Field("", description="A file or folder below `DATA_DIR/imports`, when nothing is uploaded.")
    dry_run: bool = Field(False, description="Say what would be done, and change nothing.")
    agent: int | None = Field(
        None, ge=1, le=LARGEST_ID, description="The agent that answers the conversations from now on."
    )
    orphans: Text = Field("", description="User name of the person who gets conversations of nobody.")
    match: bool = Field(False, description="A user with the name or e-mail address of somebody here is that person.")
    operators: bool = Field(False, description="Administrators of Portagent 2 become operators.")


@router.post(
    "/portagent", response={202: JobOut}, operation_id="imports_portagent", summary="Import from Portagent 1.9 or 2"
)
def imports_portagent(
    request: HttpRequest,
    body: Form[PortagentIn],
    files: list[UploadedFile] = File(default=[], description="Its databases, or a file of rejects."),
) -> HttpResponse:
    """Multipart. 202 with a job to follow: its result has the counts and findings, its log the trouble. A second import changes nothing.

    Rows that could not be imported stay on the server, since password hashes may be among them: below `DATA_DIR`, in the file that the
    result names. Mended, it is imported by its `path`.
    """
    if bool(files) == bool(body.path):
        raise Problem(REQUEST_INVALID, "Upload files, or name a path: one of the two.")
    params: dict[str, Any] = {
        "dry_run": body.dry_run,
        "agent": _agent(body.agent),
        "orphans": _person(body.orphans),
        "match": body.match,
        "operators": body.operators,
    }
    if files:
        params["path"] = folder.receive(
            (file.name or "file", cast(BinaryIO, file.file)) for file in files if file.file is not None
        ).name
    else:
        params["path"] = str(folder.inside(body.path).relative_to(folder.root().resolve()))
    job = job_start(kind=IMPORT, actor=principal_of(request).actor, trigger=JobTrigger.API, params=params)
    return answer(job_dict(job), status=202)


def _agent(number: int | None) -> int | None:
    if number is not None and not Agent.objects.filter(pk=number).exists():
        raise Problem(
            REQUEST_INVALID, f"There is no agent {number}.", errors=[FieldError("agent", "There is no such agent.")]
        )
    return number


def _person(username: str) -> int | None:
    if not username:
        return None
    found = Person.objects.filter(username=username).values_list("pk", flat=True).first()
    if found is None:
        raise Problem(
            REQUEST_INVALID,
            f"There is nobody called {username}.",
            errors=[FieldError("orphans", "There is nobody of that name.")],
        )
    return found
