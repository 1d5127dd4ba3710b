"""When a browser's session was last used, written at most once a minute instead of with every request."""

from __future__ import annotations

from collections.abc import Callable

from allauth.usersessions.models import UserSession
from django.contrib.auth import SESSION_KEY
from django.core.cache import cache
from django.http import HttpRequest, HttpResponseBase

EVERY_SECONDS = 60


class ActivityMiddleware:
    """Touches the session's row after an answer that needed to know who asks. Other answers cost nothing and stay cacheable."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        session = request.session
        # Whoever looks through somebody's eyes is not that person's browser.
        if (
            session.accessed
            and not session.is_empty()
            and request.user.is_authenticated
            and session.get(SESSION_KEY) == str(request.user.pk)
        ):
            key = session.session_key
            if key and cache.add(f"activity:{key}", True, EVERY_SECONDS):
                UserSession.objects.create_from_request(request)
        return response
