"""Turns plain values into JSON answers, without an object for every row."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja.renderers import BaseRenderer
from pydantic_core import to_json as _to_json


def to_json(value: Any) -> bytes:
    """JSON of plain values; times in ISO 8601 with their zone (``Z`` for UTC), whatever is unknown as text."""
    return _to_json(value, fallback=str)


def answer(data: Any, *, status: int = 200) -> HttpResponse:
    """An answer whose body is rendered as it is: lists of 200 rows cost no validation of each row."""
    return HttpResponse(to_json(data), status=status, content_type="application/json")


def answer_once_shown(data: dict[str, Any], *, status: int = 201) -> HttpResponse:
    """An answer with a secret that is shown once: no cache keeps it, and the record for repeats keeps it encrypted."""
    response = answer(data, status=status)
    response.headers["Cache-Control"] = "no-store"
    response.holds_secret = True  # type: ignore[attr-defined]
    return response


def nothing() -> HttpResponse:
    """204."""
    return HttpResponse(status=204)


class FastRenderer(BaseRenderer):
    """Renders what a view returns through the same encoder."""

    media_type = "application/json"

    def render(self, request: HttpRequest, data: Any, *, response_status: int) -> bytes:
        return to_json(data)
