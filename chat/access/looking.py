"""An operator's browser that looks at the portal through a person's eyes: on the pages of the chat, reading only, with a banner.

Everything else stays the operator's own. Pages about passwords, tokens, two-factor and sessions are shut meanwhile: they would be the
person's secrets, or be taken for them.
"""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils.cache import add_never_cache_headers

from chat.models import Impersonation, Person
from ops.api.problems import Problem, declare, problem_response

SESSION_KEY = "looks_as"
READ_ONLY = declare("impersonation.read_only", 403, "You only look: nothing is changed as somebody else")
SHUT = declare("impersonation.shut", 403, "Not while you look at the portal as somebody else")

_SEEN = ("/chat/", "/files/", "/api/v1/chat/")
_SHUT = (
    "/profile",
    "/account/",
    "/api/v1/chat/me/tokens",
    "/api/v1/chat/me/sessions",
    "/api/v1/chat/matrix-account",
    "/api/v1/chat/export",
)
_STILL_OPEN = ("/account/logout/", "/account/login/")
# A socket of somebody who only looks says nothing either.
_HARMLESS = ("/api/v1/chat/socket-ticket",)
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def impersonation_of(request: HttpRequest) -> Impersonation | None:
    """Through whose eyes the browser looks now; ``None`` for its own. Costs nothing for whoever never began."""
    session = request.session
    if SESSION_KEY not in session:
        return None
    row = Impersonation.objects.select_related("person", "operator").filter(pk=session[SESSION_KEY]).first()
    operator = request.user
    if (
        row is None
        or not row.is_on()
        or row.session_key != session.session_key
        or not isinstance(operator, Person)
        or row.operator_id != operator.pk
        or not (operator.is_active and operator.is_staff)
        or row.person.is_staff
        or not row.person.is_active
    ):
        return None
    return row


class ImpersonationMiddleware:
    """Shows the pages of the chat as the person has them, while the operator's session says so. Stands innermost."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not request.path.startswith((*_SEEN, *_SHUT)) or not request.COOKIES:
            return self.get_response(request)
        if "HTTP_AUTHORIZATION" in request.META:
            return self.get_response(request)  # a token speaks for its owner alone
        row = impersonation_of(request)
        if row is None:
            return self.get_response(request)
        request.impersonation = row  # type: ignore[attr-defined]
        if request.path.startswith(_SHUT) and not request.path.startswith(_STILL_OPEN):
            return _refused(request, row, SHUT, f"You look at the portal as {row.person}. End that first.")
        if not request.path.startswith(_SEEN):
            return self.get_response(request)
        if request.method not in _SAFE and not request.path.startswith(_HARMLESS):
            return _refused(
                request, row, READ_ONLY, f"You look at the portal as {row.person}; nothing is changed as somebody else."
            )
        own = request.user
        request.user = row.person
        try:
            response = self.get_response(request)
        finally:
            request.user = own
        if not response.has_header("Cache-Control"):
            add_never_cache_headers(response)
        return response


def _refused(request: HttpRequest, row: Impersonation, code: object, sentence: str) -> HttpResponse:
    if request.path.startswith("/api/"):
        return problem_response(request, Problem(code, sentence))  # type: ignore[arg-type]
    return render(request, "portal/shut.html", {"impersonation": row}, status=403)


def impersonation(request: HttpRequest) -> dict[str, Impersonation | None]:
    """Context of every page: the look that is going on, for the banner."""
    return {"impersonation": getattr(request, "impersonation", None)}
