"""The check against forged requests, with the origins that an operator allowed live; and the count of those that were refused."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.middleware.csrf import CsrfViewMiddleware

from ops.middleware import SAFE_METHODS, Middleware
from ops.origins import is_allowed, note_refused


class OriginCsrfMiddleware(CsrfViewMiddleware):
    """Django's, which also takes origins that were allowed while everything runs."""

    def _origin_verified(self, request: HttpRequest) -> bool:
        verified: bool = super()._origin_verified(request)  # type: ignore[misc]
        return verified or is_allowed(request.META["HTTP_ORIGIN"])

    def _check_referer(self, request: HttpRequest) -> None:
        place = "/".join(request.META.get("HTTP_REFERER", "").split("/")[:3])
        if place.startswith("https://") and is_allowed(place):
            return
        super()._check_referer(request)  # type: ignore[misc]


class _Check(OriginCsrfMiddleware):
    def _reject(self, request: HttpRequest, reason: str) -> Any:
        return reason


def csrf_problem(request: HttpRequest) -> str:
    """Why a request with a session looks forged, "" when it does not: for views that check by themselves."""
    check = _Check(lambda _: HttpResponse())
    request.csrf_processing_done = False  # type: ignore[attr-defined]
    check.process_request(request)
    return str(check.process_view(request, lambda _: HttpResponse(), (), {}) or "")


class RefusedOriginMiddleware(Middleware):
    """Counts browsers of other origins that were turned away: a forged or misdirected write, or a preflight that nobody allowed."""

    def answer(self, request: HttpRequest) -> HttpResponseBase:
        response = self.go_on(request)
        if _looks_refused(request, response):
            _count(request)
        return response

    async def answer_async(self, request: HttpRequest) -> HttpResponseBase:
        response = await self.go_on_async(request)
        if _looks_refused(request, response):
            await sync_to_async(_count)(request)
        return response


def _looks_refused(request: HttpRequest, response: HttpResponseBase) -> bool:
    """Asks no database: nearly every request is answered here."""
    if "HTTP_ORIGIN" not in request.META:
        return False
    if request.method == "OPTIONS":
        return (
            "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in request.META
            and "Access-Control-Allow-Origin" not in response.headers
        )
    return request.method not in SAFE_METHODS and response.status_code == 403


def _count(request: HttpRequest) -> None:
    origin = request.META["HTTP_ORIGIN"]
    try:
        host = request.get_host()
    except Exception:
        host = ""
    if not is_allowed(origin, host=host, secure=request.is_secure()):
        note_refused(origin, place=request.path)
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
