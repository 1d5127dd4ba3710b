"""Completes the API's description with what holds for all operations: errors, repetition, scopes."""

from __future__ import annotations

from typing import Any

from ops.api.problems import MEDIA_TYPE
from ops.api.schemas import ProblemOut

_SAFE = {"get", "head", "options"}
_REF = "#/components/schemas/"
_PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": f"{_REF}ProblemOut"}}}

_ERRORS = {
    400: "The request cannot be read.",
    401: "No valid token or session.",
    403: "The token may only read, or the CSRF token is missing.",
    404: "There is no such thing.",
    409: "It is in a state in which this cannot be done, or the first request with this key is still being answered.",
    422: "Some fields are not right; `errors` says which, and what to do.",
    500: "A fault of ours. The log has the reason under `request_id`.",
    502: "A server behind Switchboard failed.",
    503: "Try again; `Retry-After` says when.",
}
_KEY = {
    "in": "header",
    "name": "Idempotency-Key",
    "schema": {"type": "string", "maxLength": 200},
    "required": False,
    "description": "Makes the request safe to repeat: the same key gets the same answer for 24 hours, and the work is done once.",
    "example": "6b3f1c9e-order-4711",
}


def complete(schema: dict[str, Any]) -> dict[str, Any]:
    """Add what every operation has in common."""
    definition = ProblemOut.model_json_schema(ref_template=_REF + "{model}", by_alias=True)
    schema["components"]["schemas"].update(definition.pop("$defs", {}))
    schema["components"]["schemas"]["ProblemOut"] = definition
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            _complete(operation, method, path)
    return schema


def _complete(operation: dict[str, Any], method: str, path: str) -> None:
    safe = method in _SAFE
    wanted = {401, 422, 500, 503}
    if "{" in path:
        wanted.add(404)
    if not safe:
        wanted |= {400, 403, 409}
        operation["parameters"] = [*operation.get("parameters", []), _KEY]
    if (
        (path.startswith(("/api/v1/services/", "/api/v1/mappings/")) and not safe)
        or "/memory" in path
        or "/sync" in path
    ):
        wanted.add(502)
    operation["x-scope"] = "read" if safe else "write"
    for status in sorted(wanted):
        operation["responses"].setdefault(status, {"description": _ERRORS[status], "content": _PROBLEM})
