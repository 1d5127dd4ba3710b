"""The public status page: ``/status`` and ``/status.json``. Off (404) unless ``STATUS_PAGE`` is on; needs no login, sets no cookie."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.views.decorators.http import require_safe

from ops.logs import get_logger
from ops.public_status import Status, public_status
from ops.strips import bars_of, percent
from ops.uptime import WINDOWS

logger = get_logger(__name__)

KEPT_SECONDS = 5
_CACHE = "switchboard.status"
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@require_safe
def status_html(request: HttpRequest) -> HttpResponse:
    """The page for people; 503 when the database does not answer."""
    _only_when_on()
    status = _status()
    content = render_to_string("switchboard/status.html", _context(status))
    answer = HttpResponse(content, status=200 if status is not None else 503)
    answer["Content-Security-Policy"] = _POLICY
    # A page of its own that shows nobody's data: it may be read again by whoever asks next.
    answer["Cache-Control"] = f"public, max-age={KEPT_SECONDS}" if status is not None else "no-store"
    return answer


@require_safe
def status_json(request: HttpRequest) -> HttpResponse:
    """The same as JSON; see ``Status.to_dict``."""
    _only_when_on()
    status = _status()
    if status is None:
        return JsonResponse({"status": "unknown", "sentence": _BROKEN}, status=503)
    answer = JsonResponse(status.to_dict())
    answer["Cache-Control"] = f"public, max-age={KEPT_SECONDS}"
    answer["Access-Control-Allow-Origin"] = "*"
    return answer


_BROKEN = "The status cannot be read at this moment."


def _only_when_on() -> None:
    if not settings.STATUS_PAGE:
        raise Http404("There is no public status page.")


def _status() -> Status | None:
    """Read at most every few seconds, however many ask. None: what it would be read from does not answer."""
    kept: Status | None = cache.get(_CACHE)
    if kept is None:
        try:
            kept = public_status()
        except Exception:
            logger.exception("public_status_unreadable")
            return None
        cache.set(_CACHE, kept, KEPT_SECONDS)
    return kept


def _context(status: Status | None) -> dict[str, Any]:
    parts = status.parts if status is not None else []
    return {
        "name": settings.STATUS_PAGE_TITLE,
        "status": status,
        "broken": _BROKEN,
        "parts": [
            {
                "part": part,
                "bars": bars_of(part.slots, WINDOWS[2], part.label),
                "share": percent(part.shares.get(WINDOWS[2].key)),
            }
            for part in parts
        ],
    }
