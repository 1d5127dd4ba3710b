from __future__ import annotations

import pytest
from django.http import HttpResponse
from django.test import AsyncClient, Client, RequestFactory

from ops import health
from ops.models import Service
from ops.registry import register_metrics
from ops.request_ids import RequestIdMiddleware
from ops.services.heartbeats import stamp

pytestmark = pytest.mark.urls("ops.urls")

STRANGER = {"REMOTE_ADDR": "203.0.113.9"}


def test_livez_asks_nothing(client):
    # Without the database mark any query raises.
    assert client.get("/livez").status_code == 200
    assert client.post("/livez").status_code == 405


@pytest.mark.django_db
def test_readyz_is_ready(client):
    answer = client.get("/readyz")
    assert (answer.status_code, answer.content) == (200, b"ready\n")


@pytest.mark.django_db
@pytest.mark.parametrize("broken", ["_database", "_migrations"])
def test_readyz_says_503_and_gives_strangers_no_detail(client, monkeypatch, broken):
    def fail():
        raise RuntimeError("secret detail")

    monkeypatch.setattr(health, broken, fail)
    assert client.get("/readyz").status_code == 503
    answer = client.get("/readyz?verbose", **STRANGER)
    assert answer.status_code == 503
    assert b"[-]" in answer.content
    assert b"RuntimeError" not in answer.content
    local = client.get("/readyz?verbose")
    assert b"RuntimeError" in local.content
    assert b"secret detail" not in local.content


@pytest.mark.django_db
def test_readyz_notices_migrations_that_are_not_applied(client, monkeypatch):
    monkeypatch.setattr(health, "_migrated", False)
    monkeypatch.setattr(health, "unapplied_migrations", lambda: ["ops.0009_x"])
    assert client.get("/readyz").status_code == 503


@pytest.mark.django_db
def test_readyz_asks_the_broker_and_the_channel_layer_when_there_are_any(client, settings):
    settings.EMBEDDED = False
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    from celery import current_app

    before = current_app.conf.broker_url
    current_app.conf.broker_url = settings.REDIS_URL
    try:
        answer = client.get("/readyz?verbose", **STRANGER)
    finally:
        current_app.conf.broker_url = before
    assert answer.status_code == 503
    assert b"[+] database: ok" in answer.content
    assert b"[-] broker: failed" in answer.content
    assert b"[-] channel layer: failed" in answer.content


@pytest.mark.django_db
def test_health_keeps_the_predecessors_shape(client, clean_registry):
    from ops.registry import register_service_kind

    answer = client.get("/health", **STRANGER)
    body = answer.json()
    assert set(body) == {"status", "authenticated", "timestamp", "agent_sync_available"}
    assert (body["status"], body["authenticated"], body["agent_sync_available"]) == ("healthy", False, False)
    register_service_kind("t-home", label="Home", role="homeserver")
    Service.objects.create(name="home", kind="t-home", status="ok")
    stamp()
    body = client.get("/health").json()
    assert (body["authenticated"], body["agent_sync_available"]) == (True, True)


@pytest.mark.django_db
class TestMetrics:
    def test_with_a_token_only_its_bearer_may_read(self, client, settings):
        settings.METRICS_TOKEN = "metrics-token-1"
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", HTTP_AUTHORIZATION="Bearer wrong").status_code == 401
        answer = client.get("/metrics", HTTP_AUTHORIZATION="Bearer metrics-token-1", **STRANGER)
        assert answer.status_code == 200
        assert b'switchboard_jobs{state="failed"} 0.0' in answer.content

    def test_without_one_loopback_may_read_and_strangers_may_not(self, client, settings):
        settings.METRICS_TOKEN = ""
        assert client.get("/metrics").status_code == 200
        assert client.get("/metrics", **STRANGER).status_code == 401
        assert client.get("/metrics", HTTP_X_FORWARDED_FOR="203.0.113.9").status_code == 401

    def test_operators_may_read_and_other_people_may_not(self, client, settings, alice):
        settings.METRICS_TOKEN = "metrics-token-1"
        client.force_login(alice)
        assert client.get("/metrics", **STRANGER).status_code == 401
        alice.is_staff = True
        alice.save()
        assert client.get("/metrics", **STRANGER).status_code == 200

    def test_a_collector_that_fails_is_left_out_and_counted(self, client, settings, clean_registry):
        def broken():
            raise RuntimeError("no numbers")
            yield

        settings.METRICS_TOKEN = ""
        register_metrics(broken)
        text = client.get("/metrics").content.decode()
        assert "switchboard_collector_failures_total{collector=" in text
        assert "broken" in text
        assert "switchboard_jobs" in text

    def test_openmetrics_when_asked(self, client, settings):
        settings.METRICS_TOKEN = ""
        answer = client.get("/metrics", HTTP_ACCEPT="application/openmetrics-text; version=1.0.0")
        assert answer["Content-Type"].startswith("application/openmetrics-text")
        assert answer.content.endswith(b"# EOF\n")


def test_a_well_formed_request_id_is_kept_and_others_are_replaced():
    client = Client()
    assert client.get("/livez", HTTP_X_REQUEST_ID="proxy-id-12345")["X-Request-Id"] == "proxy-id-12345"
    for bad in ("short", "x" * 65, "with space 123", "semi;colon-123"):
        given = client.get("/livez", HTTP_X_REQUEST_ID=bad)["X-Request-Id"]
        assert given != bad
        assert len(given) == 32


async def _ask_async():
    return await AsyncClient().get("/livez", headers={"x-request-id": "async-id-12345"})


def test_it_works_under_asgi():
    from asgiref.sync import async_to_sync

    assert async_to_sync(_ask_async)()["X-Request-Id"] == "async-id-12345"


def test_the_id_is_bound_to_the_logs_while_the_request_lasts():
    import structlog
    from asgiref.sync import async_to_sync

    seen = []

    def view(request):
        seen.append(structlog.contextvars.get_contextvars().get("request_id") == request.request_id)
        return HttpResponse()

    async def async_view(request):
        return view(request)

    RequestIdMiddleware(view)(RequestFactory().get("/"))
    async_to_sync(RequestIdMiddleware(async_view))(RequestFactory().get("/"))
    assert seen == [True, True]
    assert "request_id" not in structlog.contextvars.get_contextvars()
