"""The page on which people chat: a shell; what is in it comes from the API and the socket."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import ensure_csrf_cookie


@never_cache
@ensure_csrf_cookie
@login_required
def chat(request: HttpRequest, conversation_id: int | None = None) -> HttpResponse:
    """The chat page. Whose conversation it is, is answered by the API: a foreign id shows that there is none."""
    return render(request, "portal/chat.html", {"conversation_id": conversation_id})
