"""A page of the list of agents through the whole of Django, in turns with the bare query."""

from __future__ import annotations

import time
from typing import Any

from bench.inside.setup import start

LIMIT = 200


def main(rounds: int) -> dict[str, Any]:
    """Milliseconds of ``rounds`` requests and bare queries, and the number of queries of a request."""
    from django.core.handlers.base import BaseHandler
    from django.db import connection
    from django.test import RequestFactory
    from django.test.utils import CaptureQueriesContext

    from agents.models import Agent

    handler = BaseHandler()
    handler.load_middleware()
    headers = {"Authorization": f"Bearer {_token()}"}
    factory = RequestFactory(SERVER_NAME="127.0.0.1")

    def ask() -> Any:
        response = handler.get_response(factory.get("/api/v1/agents", {"limit": LIMIT}, headers=headers))
        assert response.status_code == 200, response.content[:500]
        return response

    columns = [
        "id", "service__name", "external_id", "name", "description", "model", "avatar_url", "state", "paused", "memory_policy",
        "missing_since", "mapping__id", "mapping__account__user_id", "mapping__room_id", "mapping__room__room_id",
        "mapping__room__alias", "mapping__problem", "created_at", "updated_at",
    ]  # fmt: skip

    def query() -> Any:
        return list(Agent.objects.order_by("id").values(*columns)[: LIMIT + 1])

    for _ in range(3):
        ask()
        query()
    with CaptureQueriesContext(connection) as captured:
        ask()
    ours, floor = [], []
    for _ in range(rounds):
        for times, work in ((ours, ask), (floor, query)):
            began = time.perf_counter()
            work()
            times.append((time.perf_counter() - began) * 1000)
    return {"ours": ours, "floor": floor, "queries": len(captured), "bytes": len(ask().content)}


def _token() -> str:
    from django.contrib.auth import get_user_model

    from ops.services.tokens import token_create

    owner = get_user_model()._default_manager.create(username="bench", is_staff=True, is_active=True, is_superuser=True)
    _, plaintext = token_create(owner=owner, name="bench", scope="read", actor="bench")  # type: ignore[arg-type]
    return plaintext


if __name__ == "__main__":
    start(main)
