"""What people see when a form of theirs looks forged: nearly always a page that was open for long, or an address that nobody allowed."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import REASON_BAD_ORIGIN
from django.shortcuts import render

from ops.api.problems import AUTH_CSRF, Problem, problem_response
from ops.logs import get_logger

log = get_logger(__name__)

_BAD_ORIGIN = REASON_BAD_ORIGIN.split("%s")[0]
_PROGRAMS = ("/api/", "/v1/", "/webhook/")


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """403, with what to do. The refused origin is counted by ``ops.csrf.RefusedOriginMiddleware``."""
    origin = request.META.get("HTTP_ORIGIN", "") if reason.startswith(_BAD_ORIGIN) else ""
    log.warning("csrf.refused", reason=reason, path=request.path)
    if request.path.startswith(_PROGRAMS) or "application/json" in request.headers.get("accept", ""):
        sentence = "Send the CSRF token of your session in the header X-CSRFToken."
        return problem_response(request, Problem(AUTH_CSRF, sentence))
    return render(request, "portal/forged.html", {"origin": origin[:200]}, status=403)
