"""Errors in OpenAI's shape: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse

from chat.services.attachments import AttachmentRefused
from chat.services.messages import CannotSend
from ops.api.answers import answer


class ApiError(Exception):
    """What a client is answered. ``retry``: whether its library may send the request again by itself."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after: int = 0,
        retry: bool = False,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.kind, self.param, self.code = status, message, kind, param, code
        self.retry_after, self.retry = retry_after, retry

    def body(self) -> dict[str, Any]:
        """``{"error": …}``."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def response(self) -> HttpResponse:
        """The answer."""
        response = answer(self.body(), status=self.status)
        # OpenAI's own libraries repeat 408, 409, 429 and 5xx unless they are told not to.
        response.headers["X-Should-Retry"] = "true" if self.retry else "false"
        if self.retry_after:
            response.headers["Retry-After"] = str(self.retry_after)
        if self.status == 401:
            response.headers["WWW-Authenticate"] = 'Bearer realm="switchboard"'
        return response


def unauthorized() -> ApiError:
    """401, the same for every kind of wrong token."""
    return ApiError(401, "Send a valid personal token as 'Authorization: Bearer …'.", code="invalid_api_key")


def no_model(name: str) -> ApiError:
    """404: the agent does not exist, or not for this person."""
    return ApiError(
        404, f"There is no model {name[:100]!r}. GET /v1/models lists yours.", param="model", code="model_not_found"
    )


def refused(error: CannotSend | AttachmentRefused) -> ApiError:
    """A message or a file that was not taken."""
    code = error.code
    if code.startswith("quota."):
        return ApiError(429, error.sentence, kind="insufficient_quota", code=code)
    if code in ("guard.fan_out", "guard.reply_limit"):
        return ApiError(429, error.sentence, kind="rate_limit_error", code=code, retry_after=60)
    if code == "agent.not_yours":
        return ApiError(404, error.sentence, param="model", code="model_not_found")
    if code in ("agent.archived", "turn.open"):
        return ApiError(409, error.sentence, code=code)
    return ApiError(400, error.sentence, param="messages", code=code)


def not_answered(state: str, sentence: str, code: str) -> ApiError:
    """The agent did not answer. Not to be repeated by a library: the message is kept, and its server was asked several times already."""
    message = sentence or "The agent did not answer."
    return ApiError(504 if state == "timed_out" else 502, message, kind="server_error", code=code or f"turn.{state}")
