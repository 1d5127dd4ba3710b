"""The check against forged requests, with the origins that an operator allowed live; and the count of those that were refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.middleware.csrf import CsrfViewMiddleware

from ops.origins import is_allowed, note_refused

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

GetResponse = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


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


class RefusedOriginMiddleware:
    """Counts browsers of other origins that were turned away: a forged or misdirected write, or a preflight that nobody allowed."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self._call_async(request)
        response: HttpResponseBase = self.get_response(request)  # type: ignore[assignment]
        if _looks_refused(request, response):
            _count(request)
        return response

    async def _call_async(self, request: HttpRequest) -> HttpResponseBase:
        response = await self.get_response(request)  # type: ignore[misc]
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
    return request.method not in SAFE and response.status_code == 403


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
