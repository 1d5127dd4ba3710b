"""What the chat page remembers for a person: keys, how Enter works, what screen readers hear."""

from __future__ import annotations

import json

from django.core.exceptions import ValidationError
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from chat.access.identity import identity_of_session
from chat.models import Person
from chat.services.preferences import preferences_save

_LARGEST = 16_384


@never_cache
@require_POST
def preferences(request: HttpRequest) -> JsonResponse:
    """Keep a JSON object of preferences (``null`` forgets one); answers ``{"preferences": all}``."""
    identity = identity_of_session(request)
    if identity is None or not isinstance(request.user, Person):
        return _problem(401, "auth.required", "Sign in, and choose again.")
    try:
        changes = json.loads(request.body) if len(request.body) <= _LARGEST else None
    except ValueError:
        changes = None
    if not isinstance(changes, dict):
        return _problem(400, "request.malformed", "Send a JSON object of preferences.")
    try:
        kept = preferences_save(person=request.user, changes=changes, actor=identity.actor)
    except ValidationError as error:
        return _problem(422, "request.invalid", " ".join(error.messages))
    return JsonResponse({"preferences": kept})


def _problem(status: int, code: str, detail: str) -> JsonResponse:
    body = {"type": "about:blank", "status": status, "code": code, "detail": detail}
    return JsonResponse(body, status=status, content_type="application/problem+json")
