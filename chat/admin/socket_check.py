"""“WebSocket check”: opens a socket from the operator's own browser, with a one-use ticket, and measures; beside it what the server finds."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.views.decorators.cache import never_cache

from chat.access.identity import identity_of_session
from chat.access.tickets import ticket_issue
from chat.doctor.portal.sockets import HOURS, REASONS, legs
from chat.socket.protocol import PATH, SUBPROTOCOL
from chat.socket.statistics import snapshot
from ops.admin.base import OperatorAdmin, actor_of

_WORDS = {
    1000: "ended by the page",
    1001: "the page went away",
    1005: "ended without a word",
    1006: "cut: a network or a proxy",
    1013: "read too slowly",
    4400: "said what cannot be understood",
    4409: "access ended",
    4413: "said too much at once",
    4429: "said too much too fast",
    4503: "the server went down",
    **REASONS,
}


def check_view(page: OperatorAdmin, request: HttpRequest) -> HttpResponse:
    """The page. With ``?server`` the server tries as well, inside and at the public address; that takes some seconds."""
    found = snapshot(HOURS)
    closes = [
        {"code": code, "words": _WORDS.get(code, ""), "count": count, "refused": code in REASONS}
        for code, count in sorted(found.closes.items(), key=lambda one: -one[1])
    ]
    tried = []
    if "server" in request.GET:
        inside, outside = legs()
        tried = [("Where the web server listens", inside), ("Where people come", outside)]
    return page.page(
        request,
        "switchboard/socket_check.html",
        title="WebSocket check",
        closes=closes,
        hours=HOURS,
        tried=tried,
        path=PATH,
        subprotocol=SUBPROTOCOL,
    )


@never_cache
def ticket_view(request: HttpRequest) -> HttpResponse:
    """A one-use ticket for the operator's own socket, by POST."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    identity = identity_of_session(request)
    if identity is None:
        return JsonResponse({"detail": "Sign in again."}, status=401)
    return JsonResponse({"ticket": ticket_issue(identity=identity, actor=actor_of(request))})
