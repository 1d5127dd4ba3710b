"""Makes every error below /api/ and /webhook/ a problem, also those that the framework answers by itself."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponseBase

from ops.api.problems import MEDIA_TYPE, problem_of_status, problem_response
from ops.middleware import Middleware

PLACES = ("/api/", "/webhook/")


class ProblemMiddleware(Middleware):
    """Unknown addresses, wrong methods, refused hosts, faults: HTML pages for people, problems for programs."""

    def answer(self, request: HttpRequest) -> HttpResponseBase:
        return _as_problem(request, self.go_on(request))

    async def answer_async(self, request: HttpRequest) -> HttpResponseBase:
        return _as_problem(request, await self.go_on_async(request))


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
