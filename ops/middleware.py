"""Gives every request an id that its log lines, its audit events and its answer share."""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase

from ops.logs import bind

HEADER = "X-Request-Id"

# What a proxy may hand us: nothing that could break a log line or a header.
_VALID = re.compile(r"[A-Za-z0-9._:-]{8,64}\Z")

GetResponse = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


class RequestIdMiddleware:
    """Takes ``X-Request-Id`` when it is well formed, makes one otherwise, and returns it. Works in sync and async chains.

    The id is ``request.request_id`` and, while the request lasts, bound to the logs as ``request_id``.
    """

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
        request_id = _request_id(request)
        with bind(request_id=request_id):
            response = self.get_response(request)
        response.headers[HEADER] = request_id  # type: ignore[union-attr]
        return response

    async def _call_async(self, request: HttpRequest) -> HttpResponseBase:
        request_id = _request_id(request)
        with bind(request_id=request_id):
            response = await self.get_response(request)  # type: ignore[misc]
        response.headers[HEADER] = request_id
        return response


def _request_id(request: HttpRequest) -> str:
    given = request.headers.get(HEADER, "")
    request_id = given if _VALID.match(given) else uuid.uuid4().hex
    request.request_id = request_id  # type: ignore[attr-defined]
    return request_id
