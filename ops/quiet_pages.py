"""What is answered to a write that comes while rows are put back (``ops.quiet``): come again, in the shape that the client expects."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.loader import render_to_string

from ops.api.answers import answer
from ops.api.problems import Problem, declare, problem_response, translate
from ops.logs import unlogged
from ops.middleware import SAFE_METHODS, Middleware
from ops.quiet import RETRY_AFTER, Quiet, StillBusy, is_quiet, is_quiet_async

QUIET = declare(Quiet.code, 503, "Rows are being put back")
BUSY = declare("installation.busy", 409, "Work goes on that must not be cut off")

# A homeserver's requests are answered in its own shape (``chat.matrix.views``).
_OWN_ANSWER = ("/_matrix/", "/transactions/", "/ping")
_PROGRAMS = ("/api/", "/webhook/")
# Clients made for other servers know their own errors only.
_OTHERS = ("/v1/", "/agentx/")


class QuietMiddleware(Middleware):
    """503 with ``Retry-After`` to every write while everything stands still. What only reads goes on."""

    def answer(self, request: HttpRequest) -> HttpResponseBase:
        reason = is_quiet() if _writes(request) else ""
        return refusal(request, reason) if reason else self.go_on(request)

    async def answer_async(self, request: HttpRequest) -> HttpResponseBase:
        reason = await is_quiet_async() if _writes(request) else ""
        return refusal(request, reason) if reason else await self.go_on_async(request)


def refusal(request: HttpRequest, reason: str) -> HttpResponse:
    """The answer to a write that came in between."""
    headers = {"Retry-After": str(RETRY_AFTER)}
    if request.path.startswith(_PROGRAMS):
        return unlogged(problem_response(request, _problem(Quiet(reason))))
    if request.path.startswith(_OTHERS):
        body = {"error": {"message": Quiet(reason).sentence, "type": "server_error", "param": None, "code": Quiet.code}}
        response = answer(body, status=503)
        response.headers["X-Should-Retry"] = "true"
    else:
        page = render_to_string("switchboard/quiet.html", {"reason": reason})
        response = HttpResponse(page, status=503)
    for name, value in headers.items():
        response.headers[name] = value
    return unlogged(response)


def _writes(request: HttpRequest) -> bool:
    return request.method not in SAFE_METHODS and not request.path.startswith(_OWN_ANSWER)


def _problem(error: Quiet) -> Problem:
    return Problem(QUIET, error.sentence, headers={"Retry-After": str(RETRY_AFTER)})


translate(Quiet, _problem)
translate(StillBusy, lambda error: Problem(BUSY, str(error)))
