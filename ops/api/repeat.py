"""``Idempotency-Key``: a write that is sent twice is done once, and answered the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse

from ops.api.answers import answer
from ops.api.principals import SAFE_METHODS, principal_of
from ops.api.problems import MEDIA_TYPE, problem_of, problem_response
from ops.services.idempotency import Replay, abandon, begin, finish

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
_KEPT_REFUSALS = frozenset({400, 404, 422})


def repeatable(view: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator for every operation: unsafe ones with the header are recorded, and repeated from the record.

    It runs after authentication and validation. Lasting refusals are recorded as well; conflicts and faults are not.
    """

    @wraps(view)
    def call(request: HttpRequest, *args: Any, **values: Any) -> Any:
        # Files were read as a stream: their bytes are no longer there to be compared.
        streamed = request.content_type in ("multipart/form-data", "application/octet-stream")
        if request.method in SAFE_METHODS or HEADER not in request.headers or streamed:
            return view(request, *args, **values)
        return answer_once(request, principal_of(request).key, lambda: view(request, *args, **values))

    return call


def answer_once(request: HttpRequest, principal: str, work: Callable[[], HttpResponse]) -> HttpResponse:
    """Do the work unless this caller has sent it before. Raises ``IdempotencyError`` when the key cannot be used."""
    found = begin(
        key=request.headers[HEADER],
        principal=principal,
        method=request.method or "",
        path=request.path,
        body=request.body,
    )
    if isinstance(found, Replay):
        return _replay(request, found)
    try:
        response = work()
    except Exception as error:
        problem = problem_of(error)
        response = problem_response(request, problem)
    except BaseException:
        abandon(found)
        raise
    if response.status_code < 400 or response.status_code in _KEPT_REFUSALS:
        body = json.loads(response.content) if response.content else None
        finish(found, status=response.status_code, response=body, secret=getattr(response, "holds_secret", False))
    else:
        # Busy, limited, a fault: another try may succeed, with the same key.
        abandon(found)
    return response


def _replay(request: HttpRequest, found: Replay) -> HttpResponse:
    if found.response is None:
        response = HttpResponse(status=found.status)
    elif found.status < 400:
        response = answer(found.response, status=found.status)
    else:
        # The refusal is the first one's; the id is that of this request, under which the log knows it.
        response = answer({**found.response, "request_id": getattr(request, "request_id", "")}, status=found.status)
        response.headers["Content-Type"] = MEDIA_TYPE
    response.headers[REPLAYED] = "true"
    return response


def message_key(request: HttpRequest) -> str:
    """An id for what this request says, the same for each repetition; "" without the header.

    It outlives the recorded answer: a message is never said twice, even when the first answer was lost.
    """
    key = request.headers.get(HEADER, "")
    if not key:
        return ""
    return hashlib.sha256(f"{principal_of(request).key}\n{request.path}\n{key}".encode()).hexdigest()
