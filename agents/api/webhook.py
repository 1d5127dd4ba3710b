"""The predecessor's hook: an agent was made, sync at once."""

from __future__ import annotations

import hmac

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from ninja.errors import ValidationError as BadRequest
from pydantic import BaseModel, ConfigDict, ValidationError

from agents.api.sync import start_sync
from ops.api.answers import answer
from ops.api.inputs import Text
from ops.api.jobs import job_url
from ops.api.principals import by_token, require_scope
from ops.api.problems import (
    METHOD,
    REQUEST_MALFORMED,
    REQUEST_TOO_LARGE,
    Problem,
    problem_of,
    problem_response,
    unauthorized,
)
from ops.api.repeat import HEADER, answer_once

MAX_BODY = 64 * 1024


class NewAgent(BaseModel):
    """The predecessor's body, ``{agent_id, timestamp}``; it may be empty. Both are kept for the record only."""

    model_config = ConfigDict(extra="ignore")

    agent_id: Text = ""
    timestamp: Text | int | float | None = None


@csrf_exempt
def new_agent(request: HttpRequest) -> HttpResponse:
    """``POST /webhook/new-agent`` with ``NEW_AGENT_WEBHOOK_TOKEN`` or an operator's token that may write. 202 with the job."""
    try:
        return _new_agent(request)
    except Exception as error:
        return problem_response(request, problem_of(error))


def _new_agent(request: HttpRequest) -> HttpResponse:
    if request.method != "POST":
        raise Problem(METHOD, "Use POST.", headers={"Allow": "POST"})
    actor, key = _caller(request)
    body = _body(request)

    def work() -> HttpResponse:
        job = start_sync(actor=actor)
        found = {"status": "accepted", "agent_id": body.agent_id, "job": job.pk, "url": job_url(job)}
        return answer(found, status=202)

    return answer_once(request, key, work) if HEADER in request.headers else work()


def _caller(request: HttpRequest) -> tuple[str, str]:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise unauthorized("Send NEW_AGENT_WEBHOOK_TOKEN or an operator token as 'Authorization: Bearer …'.")
    expected: str = settings.NEW_AGENT_WEBHOOK_TOKEN
    if expected and hmac.compare_digest(token.encode(), expected.encode()):
        return "webhook:new-agent", "webhook:new-agent"
    principal = by_token(token)
    if principal is None:
        raise unauthorized("Send NEW_AGENT_WEBHOOK_TOKEN or an operator token as 'Authorization: Bearer …'.")
    return require_scope(request, principal).actor, principal.key


def _body(request: HttpRequest) -> NewAgent:
    if len(request.body) > MAX_BODY:
        raise Problem(REQUEST_TOO_LARGE)
    if not request.body.strip():
        return NewAgent()
    try:
        return NewAgent.model_validate_json(request.body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        if any(entry["type"] == "json_invalid" for entry in found):
            raise Problem(REQUEST_MALFORMED, 'The body is not JSON. Send {"agent_id": …, "timestamp": …}.') from error
        raise BadRequest([{**entry, "loc": ("body", "body", *entry["loc"])} for entry in found]) from error
