"""Makes every error below /api/ and /webhook/ a problem, also those that the framework answers by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase

from ops.api.problems import MEDIA_TYPE, problem_of_status, problem_response

PLACES = ("/api/", "/webhook/")

GetResponse = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


class ProblemMiddleware:
    """Unknown addresses, wrong methods, refused hosts, faults: HTML pages for people, problems for programs."""

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
        return _as_problem(request, self.get_response(request))  # type: ignore[arg-type]

    async def _call_async(self, request: HttpRequest) -> HttpResponseBase:
        return _as_problem(request, await self.get_response(request))  # type: ignore[misc]


def _as_problem(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    if response.status_code < 400 or not request.path.startswith(PLACES):
        return response
    if getattr(response, "own_shape", False):  # an interface of somebody else's, whose clients expect its errors
        return response
    if response.headers.get("Content-Type", "").startswith(MEDIA_TYPE):
        return response
    problem = problem_of_status(response.status_code, request.method or "")
    for name in ("Allow", "Retry-After"):
        if name in response.headers:
            problem.headers[name] = response.headers[name]
    return problem_response(request, problem)
