"""``/v1/models`` and ``/v1/chat/completions``, with a personal token or a program's access token."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.core.exceptions import RequestDataTooBig
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt

from agents.models import Agent
from chat.access.grants import agents_for
from chat.access.identity import Identity, still_valid
from chat.access.programs import identity_of_bearer
from chat.models import Person
from chat.openai.asked import Asked, parse
from chat.openai.errors import ApiError, no_model, refused, unauthorized
from chat.openai.stream import Completion
from chat.services.attachments import AttachmentRefused
from chat.services.completions import completion_start
from chat.services.messages import CannotSend, Sent
from ops.api.answers import answer
from ops.logs import get_logger

log = get_logger(__name__)

_ID = re.compile(r"agent-(\d{1,18})\Z")
# Libraries say how often they have sent the same request before.
_RETRY = "x-stainless-retry-count"

View = Callable[..., Any]


def _api(*methods: str) -> Callable[[View], View]:
    """Decorator: token, method and errors, each in OpenAI's way. The view gets the identity and the person."""

    def decorate(view: View) -> View:
        def check(request: HttpRequest) -> tuple[Identity, Person]:
            identity = identity_of_bearer(_bearer(request))
            person = Person.objects.filter(pk=identity.person_id).first() if identity is not None else None
            if identity is None or person is None:
                raise unauthorized()
            if request.method not in methods:
                raise ApiError(405, f"Use {' or '.join(methods)} here.")
            return identity, person

        if iscoroutinefunction(view):

            async def call_async(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
                try:
                    identity, person = await sync_to_async(check)(request)
                    return await view(request, identity, person, *args, **kwargs)
                except Exception as error:
                    return _error(error)

            call: View = wraps(view)(call_async)
            markcoroutinefunction(call)
        else:

            def call_sync(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
                try:
                    return view(request, *check(request), *args, **kwargs)
                except Exception as error:
                    return _error(error)

            call = wraps(view)(call_sync)
        return csrf_exempt(call)

    return decorate


def _error(error: Exception) -> HttpResponse:
    if isinstance(error, ApiError):
        return error.response()
    if isinstance(error, CannotSend | AttachmentRefused):
        return refused(error).response()
    if isinstance(error, RequestDataTooBig):
        return ApiError(413, "The request is too large.").response()
    log.error("openai_api.failed", exc_info=error)
    message = "Something went wrong here. The log has the reason under this request id."
    return ApiError(500, message, kind="server_error", code="internal").response()


def _bearer(request: HttpRequest) -> str:
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    return value if kind.lower() == "bearer" else ""


def _agents(person: Person) -> QuerySet[Agent]:
    return agents_for(person).select_related("service", "mapping__account", "mapping__room")


def _find(person: Person, name: str) -> Agent:
    """By id (``agent-<number>``), by the id on its server, or by a name that only one has. Raises ``ApiError``."""
    agents = _agents(person)
    form = _ID.match(name)
    found = list(agents.filter(pk=int(form[1]))[:1]) if form is not None and int(form[1]) < 2**63 else []
    found = found or list(agents.filter(external_id=name)[:2]) or list(agents.filter(name__iexact=name)[:2])
    if len(found) != 1:
        raise no_model(name)
    return found[0]


def model_json(agent: Agent) -> dict[str, Any]:
    """``{id, object, created, owned_by, name, description}``."""
    return {
        "id": f"agent-{agent.pk}",
        "object": "model",
        "created": int(agent.created_at.timestamp()),
        "owned_by": "switchboard",
        "name": agent.name,
        "description": agent.description or None,
    }


@_api("GET", "HEAD")
def models(request: HttpRequest, identity: Identity, person: Person) -> HttpResponse:
    """The agents that the person may talk to."""
    return answer(
        {"object": "list", "data": [model_json(agent) for agent in agents_for(person).order_by("name", "pk")]}
    )


@_api("GET", "HEAD")
def model(request: HttpRequest, identity: Identity, person: Person, name: str) -> HttpResponse:
    """One of them."""
    return answer(model_json(_find(person, name)))


@_api("POST")
async def completions(request: HttpRequest, identity: Identity, person: Person) -> HttpResponseBase:
    """Ask an agent."""
    asked, sent, name = await sync_to_async(_start)(request, identity, person)
    if sent.turn is None:
        raise ApiError(409, "The message is kept, but nobody answers it.", code="message.held")
    completion = Completion(
        sent.turn,
        name,
        include_usage=asked.include_usage,
        actor=identity.actor,
        still_allowed=lambda: bool(still_valid([identity])),
    )
    if not asked.stream:
        return answer(await completion.whole())
    response = StreamingHttpResponse(completion.chunks(), content_type="text/event-stream; charset=utf-8")
    response.headers["Cache-Control"] = "no-cache"
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _start(request: HttpRequest, identity: Identity, person: Person) -> tuple[Asked, Sent, str]:
    asked = parse(request.body)
    agent = _find(person, asked.model)
    repeated = request.headers.get(_RETRY, "0").strip() not in ("", "0")
    sent = completion_start(person=person, agent=agent, asked=asked, repeated=repeated, actor=identity.actor)
    return asked, sent, f"agent-{agent.pk}"


@csrf_exempt
def unknown(request: HttpRequest, path: str = "") -> HttpResponse:
    """Every other address below /v1."""
    return ApiError(404, f"There is no {request.method} {request.path[:200]} here.", code="unknown_url").response()
