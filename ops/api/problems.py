"""Errors of the API: one shape for all of them (RFC 9457), each with a stable code.

An app declares its codes and says how its exceptions become problems; views only raise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import responses
from typing import Any

from django.core.exceptions import ObjectDoesNotExist, RequestDataTooBig, SuspiciousOperation, ValidationError
from django.db.models import ProtectedError
from django.db.utils import OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from ninja.errors import AuthenticationError, HttpError
from ninja.errors import ValidationError as BadRequest

from ops.api.answers import to_json
from ops.locks import LockHeld
from ops.logs import get_logger
from ops.redaction import redact_text
from ops.secrets import SecretUnreadable
from ops.services.idempotency import IdempotencyError, KeyInFlight, KeyInvalid, KeyReused
from ops.words import counted, verb

logger = get_logger(__name__)

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Code:
    """A stable code with its HTTP status and title."""

    code: str
    status: int
    title: str


_codes: dict[str, Code] = {}


def declare(code: str, status: int, title: str) -> Code:
    """Make a code known; declaring it again with the same meaning is fine."""
    fresh = Code(code, status, title)
    if _codes.setdefault(code, fresh) != fresh:
        raise ValueError(f"The problem code {code!r} is already declared as {_codes[code]}.")
    return fresh


def declared() -> list[Code]:
    """All codes, for the documentation."""
    return sorted(_codes.values(), key=lambda known: known.code)


REQUEST_INVALID = declare("request.invalid", 422, "Some fields are not right")
REQUEST_MALFORMED = declare("request.malformed", 400, "The request cannot be read")
REQUEST_TOO_LARGE = declare("request.too_large", 413, "The request is too large")
CURSOR_INVALID = declare("cursor.invalid", 422, "The cursor is not usable")
AUTH_REQUIRED = declare("auth.required", 401, "Sign in, or send a valid token")
AUTH_SCOPE = declare("auth.scope", 403, "The token may only read")
AUTH_CSRF = declare("auth.csrf", 403, "The CSRF token is missing or wrong")
AUTH_REVOKED = declare("auth.revoked", 401, "The token or session has ended")
NOT_FOUND = declare("resource.not_found", 404, "There is no such thing")
ROUTE_NOT_FOUND = declare("route.not_found", 404, "There is no such address")
METHOD = declare("method.not_allowed", 405, "The address does not offer this method")
LOCKED = declare("resource.locked", 409, "Somebody else is doing the same")
IN_USE = declare("resource.in_use", 409, "Other rows depend on it")
KEY_INVALID = declare("idempotency.key_invalid", 400, "The Idempotency-Key is not usable")
KEY_IN_FLIGHT = declare("idempotency.in_flight", 409, "The first request is still being answered")
KEY_REUSED = declare("idempotency.key_reused", 422, "The Idempotency-Key belongs to another request")
SECRET_UNREADABLE = declare("secret.unreadable", 409, "Stored credentials cannot be read")
UNAVAILABLE = declare("service.unavailable", 503, "Try again in a moment")
INTERNAL = declare("internal", 500, "Something went wrong here")

_BY_STATUS = {
    400: REQUEST_MALFORMED,
    401: AUTH_REQUIRED,
    404: ROUTE_NOT_FOUND,
    405: METHOD,
    413: REQUEST_TOO_LARGE,
    503: UNAVAILABLE,
}


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field. ``place`` is body, query, path or header; ``field`` is dotted."""

    field: str
    message: str
    place: str = "body"

    def to_dict(self) -> dict[str, str]:
        return {"field": self.field, "in": self.place, "message": self.message}


class Problem(Exception):
    """An error answer. ``detail`` is a sentence that says what is wrong and what to do; it holds no secret."""

    def __init__(
        self,
        code: Code,
        detail: str = "",
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail or code.title)
        self.code = code
        self.detail = detail or f"{code.title}."
        self.errors = list(errors)
        self.headers = dict(headers or {})

    def body(self, *, instance: str = "", request_id: str = "") -> dict[str, Any]:
        """``{type, title, status, detail, instance, code, errors, request_id}``."""
        return {
            "type": f"urn:switchboard:problem:{self.code.code}",
            "title": self.code.title,
            "status": self.code.status,
            "detail": redact_text(self.detail),
            "instance": instance,
            "code": self.code.code,
            "errors": [error.to_dict() for error in self.errors],
            "request_id": request_id,
        }


Translator = Callable[[Any], Problem]
_translators: dict[type[Exception], Translator] = {}


def translate(error: type[Exception], translator: Translator) -> None:
    """Say how exceptions of this class (and its subclasses) become problems."""
    _translators[error] = translator


def problem_of(error: Exception) -> Problem:
    """The problem that an exception stands for; an unexpected one is logged and becomes ``internal``."""
    for cls in type(error).__mro__:
        if cls in _translators:
            return _translators[cls](error)
    logger.error("api_failed", exc_info=error)
    return Problem(INTERNAL, "Something went wrong here. The log has the reason under this request id.")


def problem_response(request: HttpRequest, problem: Problem) -> HttpResponse:
    """The problem as ``application/problem+json``."""
    body = problem.body(instance=request.path, request_id=getattr(request, "request_id", ""))
    response = HttpResponse(to_json(body), status=problem.code.status, content_type=MEDIA_TYPE)
    for name, value in problem.headers.items():
        response.headers[name] = value
    return response


def problem_of_status(status: int, method: str = "") -> Problem:
    """A problem for an error answer that the framework made."""
    known = _BY_STATUS.get(status)
    if known is None:
        title = responses.get(status, "Error")
        known = (
            Code("http." + title.lower().replace(" ", "_").replace("'", ""), status, title)
            if status < 500
            else INTERNAL
        )
    detail = {
        ROUTE_NOT_FOUND: "There is no such address. All of them are listed at /api/docs.",
        METHOD: f"The address does not offer {method or 'this method'}; the Allow header says what it offers.",
        INTERNAL: "Something went wrong here. The log has the reason under this request id.",
    }.get(known, "")
    return Problem(known, detail)


def unauthorized(detail: str = "") -> Problem:
    """401, the same for every reason: nobody learns which part of a token was right."""
    return Problem(
        AUTH_REQUIRED,
        detail or "Send a valid operator token as 'Authorization: Bearer …', or sign in to the admin as an operator.",
        headers={"WWW-Authenticate": 'Bearer realm="switchboard"'},
    )


def not_found(what: str, key: object) -> Problem:
    """404 for one thing by its id."""
    return Problem(NOT_FOUND, f"There is no {what} {key}.")


_SENTENCES = {
    "missing": "This field is required.",
    "extra_forbidden": "There is no such field here; leave it out.",
}


def _bad_request(error: BadRequest) -> Problem:
    errors = []
    for found in error.errors:
        place, *rest = [str(part) for part in found.get("loc", ())] or ["body"]
        # The first part of a body's path is the parameter's name in our code.
        rest = rest[1:] if place == "body" else rest[-1:]
        message = _SENTENCES.get(str(found.get("type")), str(found.get("msg", "")).removeprefix("Value error, "))
        errors.append(FieldError(".".join(rest), message if message.endswith(".") else f"{message}.", place))
    named = ", ".join(sorted({found.field or found.place for found in errors}))
    return Problem(REQUEST_INVALID, f"Correct and send again: {named}.", errors=errors)


def _validation(error: ValidationError) -> Problem:
    if hasattr(error, "error_dict"):
        errors = [FieldError(name, " ".join(messages)) for name, messages in error.message_dict.items()]
        return Problem(
            REQUEST_INVALID, f"Correct and send again: {', '.join(sorted(error.message_dict))}.", errors=errors
        )
    return Problem(REQUEST_INVALID, " ".join(error.messages))


def _http_error(error: HttpError) -> Problem:
    if isinstance(error, AuthenticationError):
        return unauthorized()
    known = problem_of_status(error.status_code)
    if known.code is REQUEST_MALFORMED:
        return Problem(REQUEST_MALFORMED, "The body is not JSON. Send an object, with Content-Type: application/json.")
    return known


def _key(error: IdempotencyError) -> Problem:
    codes = {KeyInFlight: KEY_IN_FLIGHT, KeyReused: KEY_REUSED, KeyInvalid: KEY_INVALID}
    return Problem(codes.get(type(error), KEY_INVALID), str(error))


def _protected(error: ProtectedError) -> Problem:
    kinds: dict[tuple[str, str], int] = {}
    for row in error.protected_objects:
        names = (str(row._meta.verbose_name_plural), str(row._meta.verbose_name))
        kinds[names] = kinds.get(names, 0) + 1
    what = ", ".join(counted(count, one, many) for (many, one), count in sorted(kinds.items()))
    belong = verb(sum(kinds.values()), "belongs", "belong")
    return Problem(IN_USE, f"It cannot be deleted while {what} {belong} to it. Switch it off instead.")


def _unavailable(error: OperationalError) -> Problem:
    logger.error("api_database", exc_info=error)
    return Problem(
        UNAVAILABLE, "The database did not answer in time. Send the request again.", headers={"Retry-After": "2"}
    )


translate(Problem, lambda error: error)
translate(BadRequest, _bad_request)
translate(HttpError, _http_error)
translate(ValidationError, _validation)
translate(IdempotencyError, _key)
translate(Http404, lambda error: Problem(NOT_FOUND))
translate(ObjectDoesNotExist, lambda error: Problem(NOT_FOUND))
translate(ProtectedError, _protected)
translate(OperationalError, _unavailable)
translate(
    LockHeld, lambda error: Problem(LOCKED, "Somebody else is doing the same at this moment. Send it again shortly.")
)
translate(SecretUnreadable, lambda error: Problem(SECRET_UNREADABLE, str(error)))
translate(RequestDataTooBig, lambda error: Problem(REQUEST_TOO_LARGE))
translate(SuspiciousOperation, lambda error: Problem(REQUEST_MALFORMED))
