"""The page on which people chat: a shell; what is in it comes from the API and the socket."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import ensure_csrf_cookie

from chat.models import Person

_SCRIPTS = Path(settings.BASE_DIR) / "static" / "portal" / "js"


@cache
def _modules() -> list[str]:
    """Every module of the page, fetched at once instead of one import after the other."""
    return sorted(f"portal/js/{one.name}" for one in _SCRIPTS.glob("*.js") if one.name != "beacon.js")


@never_cache
@ensure_csrf_cookie
@login_required
def chat(request: HttpRequest, conversation_id: int | None = None) -> HttpResponse:
    """The chat page. Whose conversation it is, is answered by the API: a foreign id shows that there is none."""
    person = request.user
    return render(
        request,
        "portal/chat.html",
        {
            "conversation_id": conversation_id,
            "modules": _modules(),
            "csrf_cookie": settings.CSRF_COOKIE_NAME,
            "preferences": person.preferences if isinstance(person, Person) else {},
            "matrix": bool(settings.MATRIX_CLIENT_URL),
        },
    )
