"""Gives every request an id that its log lines, its audit events and its answer share."""

from __future__ import annotations

import re
import uuid

from django.http import HttpRequest, HttpResponseBase

from ops.logs import bind
from ops.middleware import Middleware

HEADER = "X-Request-Id"

# What a proxy may hand us: nothing that could break a log line or a header.
_VALID = re.compile(r"[A-Za-z0-9._:-]{8,64}\Z")


class RequestIdMiddleware(Middleware):
    """Takes ``X-Request-Id`` when it is well formed, makes one otherwise, and returns it.

    The id is ``request.request_id`` and, while the request lasts, bound to the logs as ``request_id``.
    """

    def answer(self, request: HttpRequest) -> HttpResponseBase:
        request_id = _request_id(request)
        with bind(request_id=request_id):
            response = self.go_on(request)
        response.headers[HEADER] = request_id
        return response

    async def answer_async(self, request: HttpRequest) -> HttpResponseBase:
        request_id = _request_id(request)
        with bind(request_id=request_id):
            response = await self.go_on_async(request)
        response.headers[HEADER] = request_id
        return response


def _request_id(request: HttpRequest) -> str:
    given = request.headers.get(HEADER, "")
    request_id = given if _VALID.match(given) else uuid.uuid4().hex
    request.request_id = request_id  # type: ignore[attr-defined]
    return request_id
