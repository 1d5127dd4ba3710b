"""What the tests of the API share: operators and tokens, a client that holds every answer against its description, rows."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone

from agents.models import Account, Agent, Mapping, Room
from ops.models import Service
from ops.services.tokens import token_create

SECRET = "sec-9f2ab7c1d0e4-never-shown"
PROBLEM = "application/problem+json"


def _operations() -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    from controlplane.api import api

    found = []
    for bound in api._get_bound_routers():
        for path, view in bound.path_operations.items():
            pattern = re.sub(r"\{path:\w+\}", ".+", f"/api/{bound.prefix}{path}")
            pattern = re.sub(r"\{\w+\}", "[^/]+", pattern)
            for operation in view.operations:
                found.append((re.compile(pattern + r"\Z"), dict.fromkeys(operation.methods, operation)))
    return found


def _fits(described: Any, given: Any, where: str) -> None:
    if isinstance(described, dict) and isinstance(given, dict):
        assert set(given) == set(described), f"{where}: {set(given) ^ set(described)}"
        for key in given:
            _fits(described[key], given[key], f"{where}.{key}")
    elif isinstance(described, list):
        for number, (one, other) in enumerate(zip(described, given, strict=True)):
            _fits(one, other, f"{where}[{number}]")


class Api:
    """Calls the API with a token. Errors must be problems, answers must have the shape that the description promises."""

    def __init__(self, token: str = "", client: Client | None = None) -> None:
        self.client = client or Client()
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        status: int = 200,
        code: str = "",
        key: str = "",
        **headers: str,
    ) -> Any:
        path = path if path.startswith("/") else f"/api/v1/{path}"
        sent = {**self.headers, **({"Idempotency-Key": key} if key else {}), **headers}
        data = {"data": body, "content_type": "application/json"} if body is not None else {}
        self.response = response = self.client.generic(
            method.upper(),
            path,
            **({"data": _json(data["data"]), "content_type": "application/json"} if data else {}),
            headers=sent,
        )
        text = response.content.decode()
        assert SECRET not in text
        assert response.status_code == status, f"{method} {path}: {response.status_code} {text[:600]}"
        if status >= 400:
            problem = response.json()
            assert response.headers["Content-Type"] == PROBLEM
            assert set(problem) == {"type", "title", "status", "detail", "instance", "code", "errors", "request_id"}
            assert problem["status"] == status
            assert problem["request_id"] == response.headers["X-Request-Id"]
            assert "Traceback" not in text
            if code:
                assert problem["code"] == code, problem
            return problem
        if not text:
            return None
        answer = response.json()
        self._hold(method.upper(), path.partition("?")[0], status, answer)
        return answer

    def _hold(self, method: str, path: str, status: int, answer: Any) -> None:
        for pattern, operations in _operations():
            if pattern.match(path) and method in operations:
                model = operations[method].response_models[status]
                shape = model.model_validate({"response": answer})
                _fits(shape.model_dump(by_alias=True)["response"], answer, path)
                return

    def walk(self, path: str) -> list[Any]:
        """All rows of a list, page by page."""
        rows, following = [], path
        while following:
            page = self("get", following)
            rows += page["items"]
            following = page["next"]
        return rows


def _json(body: Any) -> bytes:
    import json

    return body if isinstance(body, bytes) else json.dumps(body).encode()


@pytest.fixture
def operator(db):
    return get_user_model().objects.create_user(
        "olga", password="xk-29-dune-walker", is_staff=True, display_name="Olga"
    )


@pytest.fixture
def write_token(operator):
    return token_create(owner=operator, name="ci", scope="write", actor="test")[1]


@pytest.fixture
def api(write_token):
    return Api(write_token)


@pytest.fixture
def reader(operator):
    return Api(token_create(owner=operator, name="look", scope="read", actor="test")[1])


@pytest.fixture
def demo(db):
    return Service.objects.create(name="demo", kind="demo", options={"speed": 0}, credentials={"api_key": SECRET})


@pytest.fixture
def homeserver(db):
    return Service.objects.create(
        name="hs",
        kind="homeserver",
        base_url="http://127.0.0.1:9",
        credentials={"as_token": SECRET},
        options={"server_name": "hs"},
    )


@pytest.fixture
def make_agent(demo, homeserver):
    """``make_agent("demo-ada", "Ada", room=True)``: an agent, with account and room rows when asked for."""

    def make(external_id: str, name: str, *, room: bool = False, **fields: Any) -> Agent:
        agent = Agent.objects.create(service=demo, external_id=external_id, name=name, **fields)
        if room:
            account = Account.objects.create(
                homeserver=homeserver,
                user_id=f"@agent_{external_id}:hs",
                localpart=f"agent_{external_id}",
                registered_at=timezone.now(),
            )
            place = Room.objects.create(
                homeserver=homeserver, room_id=f"!{external_id}:hs", alias=f"#agent_{external_id}:hs", name=name
            )
            Mapping.objects.create(agent=agent, account=account, room=place)
        return agent

    return make


@pytest.fixture
def ada(make_agent):
    return make_agent("demo-ada", "Ada")
