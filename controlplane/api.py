"""The root of the REST API: its routers, its errors, its description."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI, Swagger

from agents.api import agents as agent_routes
from agents.api import drift, homeservers, mappings, moves, rooms, sync
from agents.api import imports as mapping_imports
from chat.api import (
    conversations,
    deliveries,
    desk_invites,
    desk_people,
    desk_usage,
    imports,
    messages,
    traces,
    turns,
)
from chat.api.people import routers as people_routers
from controlplane.api_schema import complete
from ops.api import (
    alerts,
    audit,
    backup_places,
    backups,
    checks,
    configuration,
    health,
    issues,
    jobs,
    logs,
    me,
    repairs,
    resets,
    restores,
    services,
    stream_test,
    support,
    versions,
)
from ops.api.answers import FastRenderer
from ops.api.principals import BearerToken, OperatorSession
from ops.api.problems import problem_of, problem_response, unauthorized
from ops.api.repeat import repeatable

View = Callable[..., HttpResponse]


def operators_only(view: View) -> View:
    """Decorator of the description: for signed-in operators and tokens, for everybody with ``SHOW_API_DOCS``."""

    @wraps(view)
    def call(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not settings.SHOW_API_DOCS:
            try:
                known = OperatorSession()(request) or BearerToken()(request)
            except Exception as error:
                return problem_response(request, problem_of(error))
            if known is None:
                if request.path.endswith("/docs") and "Authorization" not in request.headers:
                    return redirect_to_login(request.get_full_path())
                return problem_response(request, unauthorized())
        return view(request, *args, **kwargs)

    return call


class ControlPlaneAPI(NinjaAPI):
    """Every failure becomes a problem; the description tells of them."""

    def on_exception(self, request: HttpRequest, exc: Any) -> HttpResponse:
        return problem_response(request, problem_of(exc))

    def get_openapi_schema(self, *args: Any, **kwargs: Any) -> Any:
        return complete(super().get_openapi_schema(*args, **kwargs))


api = ControlPlaneAPI(
    title="Switchboard",
    version="1",
    description=(
        "Agents, their rooms, and what is said. Send an operator's token as `Authorization: Bearer …`; lists are paged by cursor, "
        "errors are `application/problem+json`, and a write with an `Idempotency-Key` may be sent twice."
    ),
    urls_namespace="api",
    auth=[BearerToken(), OperatorSession()],
    docs=Swagger(settings={"persistAuthorization": False, "tryItOutEnabled": True}),
    docs_decorator=operators_only,
    renderer=FastRenderer(),
)
api.add_decorator(repeatable)

for _prefix, _router in (
    ("me", me.router),
    ("services", services.router),
    ("agents", agent_routes.router),
    ("agents", moves.router),
    ("agents", messages.agent_router),
    ("mappings", mappings.router),
    ("rooms", rooms.router),
    ("drift", drift.router),
    ("homeservers", homeservers.router),
    ("conversations", conversations.router),
    ("messages", messages.router),
    ("turns", turns.router),
    ("traces", traces.router),
    ("deliveries", deliveries.router),
    ("people", desk_people.router),
    ("invites", desk_invites.router),
    ("quotas", desk_usage.quotas),
    ("usage", desk_usage.usage),
    ("access-attempts", desk_usage.attempts),
    ("imports", imports.router),
    ("imports", mapping_imports.router),
    ("jobs", jobs.router),
    ("sync", sync.router),
    ("checks", checks.router),
    ("health", health.router),
    ("settings", configuration.router),
    ("stream-test", stream_test.router),
    ("issues", issues.router),
    ("repairs", repairs.router),
    ("repair-runs", repairs.runs_router),
    ("audit", audit.router),
    ("logs", logs.router),
    ("captures", logs.captures_router),
    ("support-bundle", support.router),
    ("alerts", alerts.router),
    ("maintenance", alerts.maintenance),
    ("backups", backups.router),
    ("backup-destinations", backup_places.destinations),
    ("backup-keys", backup_places.keys),
    ("backup-plan", backup_places.plan),
    ("restores", restores.router),
    ("resets", resets.router),
    ("versions", versions.router),
    ("releases", versions.releases),
):
    api.add_router(f"v1/{_prefix}", _router)

for _router in people_routers.ROUTERS:
    api.add_router(people_routers.PREFIX, _router, auth=people_routers.auth())
