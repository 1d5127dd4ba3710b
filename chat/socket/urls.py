"""What HTTP serves beside the socket."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.http import require_safe

SCHEMA = "docs/socket.schema.json"


@cache
def _schema() -> bytes:
    return (Path(settings.BASE_DIR) / SCHEMA).read_bytes()


@require_safe
def schema(request: HttpRequest) -> HttpResponse:
    """The JSON Schema of every frame; nothing secret, so everybody may read it."""
    response = HttpResponse(_schema(), content_type="application/schema+json")
    response.headers["Access-Control-Allow-Origin"] = "*"
    return response


urlpatterns = [path("schema.json", schema, name="socket-schema")]
