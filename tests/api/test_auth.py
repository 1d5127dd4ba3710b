"""Who may call, and how refusals and faults look."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone

from agents.models import Agent
from ops.models import ApiToken
from ops.services.tokens import token_create, token_revoke
from tests.api.conftest import PROBLEM, Api


def test_me_says_who_and_what(api, operator):
    me = api("get", "me")
    assert (me["actor"], me["scope"], me["person"]["username"]) == ("token:ci", "write", "olga")
    assert me["token"]["name"] == "ci"


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer nonsense", "Basic b2xnYTp4", "Bearer swb_aaaaaaaaaaaa." + "x" * 43]
)
def test_wrong_tokens_all_get_the_same_answer(db, given):
    api = Api()
    problem = api("get", "me", status=401, code="auth.required", **({"Authorization": given} if given else {}))
    assert "valid operator token" in problem["detail"]
    assert api.response.headers["WWW-Authenticate"].startswith("Bearer")


def test_revoked_expired_and_disabled_tokens_are_refused(operator):
    token, plain = token_create(owner=operator, name="x", scope="write", actor="test")
    api = Api(plain)
    api("get", "me")
    ApiToken.objects.filter(pk=token.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    api("get", "me", status=401, code="auth.required")
    ApiToken.objects.filter(pk=token.pk).update(expires_at=None)
    operator.is_staff = False
    operator.save()
    api("get", "me", status=401, code="auth.required")
    operator.is_staff = True
    operator.save()
    api("get", "me")
    token_revoke(token=token, actor="test")
    api("get", "me", status=401, code="auth.required")


def test_a_token_that_reads_cannot_write(reader, ada):
    reader("get", "agents")
    reader("patch", f"agents/{ada.pk}", {"paused": True}, status=403, code="auth.scope")
    assert not Agent.objects.get().paused


def test_a_signed_in_operator_reads_and_writes_with_csrf(operator, ada):
    client = Client(enforce_csrf_checks=True)
    client.force_login(operator)
    api = Api(client=client)
    assert api("get", "me")["actor"] == "person:olga"
    api("patch", f"agents/{ada.pk}", {"paused": True}, status=403, code="auth.csrf")
    client.cookies["switchboard_csrf"] = "a" * 32
    api("patch", f"agents/{ada.pk}", {"paused": True}, **{"X-CSRFToken": "a" * 32})
    assert Agent.objects.get().paused


def test_a_wrong_token_counts_more_than_a_session(operator):
    client = Client()
    client.force_login(operator)
    Api(client=client)("get", "me", status=401, Authorization="Bearer wrong")


def test_a_person_who_is_no_operator_is_nobody(db):
    client = Client()
    client.force_login(get_user_model().objects.create_user("paul", password="xk-29-dune-walker"))
    Api(client=client)("get", "me", status=401)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("get", "/api/v1/nothing", 404, "route.not_found"),
        ("get", "/api/v1/agents/", 404, "route.not_found"),
        ("get", "/api/v2/agents", 404, "route.not_found"),
        ("get", "/api/", 404, "route.not_found"),
        ("delete", "/api/v1/agents", 405, "method.not_allowed"),
        ("put", "/webhook/new-agent", 405, "method.not_allowed"),
        ("get", "/api/v1/agents/12345", 404, "resource.not_found"),
        ("get", "/api/v1/agents/abc", 422, "request.invalid"),
        ("get", "/api/v1/agents/99999999999999999999", 422, "request.invalid"),
        ("get", "/api/v1/agents?limit=0", 422, "request.invalid"),
        ("get", "/api/v1/agents?limit=201", 422, "request.invalid"),
        ("get", "/api/v1/agents?state=asleep", 422, "request.invalid"),
        ("get", "/api/v1/agents?search=%00", 422, "request.invalid"),
        ("get", "/api/v1/agents?cursor=%ff%fe", 422, "cursor.invalid"),
        ("get", "/api/v1/agents?cursor=WzFd", 422, "cursor.invalid"),
        ("get", "/api/v1/jobs?cursor=WyItY3JlYXRlZF9hdCxpZCIsIngiLCJ5Il0", 422, "cursor.invalid"),
        ("get", "/api/v1/jobs/not-a-uuid", 422, "request.invalid"),
    ],
)
def test_every_error_is_a_problem(api, method, path, status, code):
    problem = api(method, path, status=status, code=code)
    assert problem["instance"] == path.partition("?")[0]
    if status == 422:
        assert problem["errors"]
        assert all(error["field"] and error["message"].endswith(".") for error in problem["errors"])


def test_405_says_what_is_offered(api):
    api("delete", "agents", status=405)
    assert "GET" in api.response.headers["Allow"]


def test_a_foreign_host_gets_a_problem(db):
    response = Client(SERVER_NAME="evil.example").get("/api/v1/me")
    assert response.status_code == 400
    assert response.headers["Content-Type"] == PROBLEM


@pytest.mark.parametrize("body", [b"{", b"[1", b'"\xff"'])
def test_a_body_that_is_not_json(api, ada, body):
    api("patch", f"agents/{ada.pk}", body, status=400, code="request.malformed")


def test_fields_that_are_wrong_are_named(api, ada):
    problem = api(
        "patch", f"agents/{ada.pk}", {"pausd": True, "memory_policy": "open"}, status=422, code="request.invalid"
    )
    fields = {error["field"]: error["message"] for error in problem["errors"]}
    assert set(fields) == {"pausd", "memory_policy"}
    assert fields["pausd"] == "There is no such field here; leave it out."
    assert "isolated" in fields["memory_policy"]


def test_half_a_surrogate_pair_is_refused(api, ada):
    api("post", f"agents/{ada.pk}/messages", b'{"text": "\\ud800"}', status=422, code="request.invalid")


def test_an_unexpected_fault_tells_nothing_and_is_logged(api, monkeypatch, caplog):
    def broken(*args, **kwargs):
        raise RuntimeError("password=hunter22 in /srv/app")

    monkeypatch.setattr("ops.api.services.service_dict", broken)
    api("post", "services", {"name": "a", "kind": "demo"}, status=500, code="internal")
    assert b"hunter22" not in api.response.content
    assert any("api_failed" in str(record.msg) for record in caplog.records)
