"""Scaled mode: daphne, celery worker and celery beat as processes over PostgreSQL and Redis."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.peers.switchboard import Stack

pytestmark = pytest.mark.e2e


def test_three_processes_over_postgres_and_redis(postgres, redis_server):
    database = postgres.create_database("scaled_mode")
    with redis_server.client() as client:
        client.flushall()
    stack = Stack(
        database_url=database,
        redis_url=redis_server.url,
        settings={"DEMO_AGENTS": "true", "SYNC_INTERVAL": "5", "MATRIX_SERVER_NAME": ""},
    )
    try:
        # No `provision`: the worker does it when it starts.
        stack.manage("migrate", "-v0")
        stack.start()
        until = time.monotonic() + 90
        found: dict[str, object] = {}
        while time.monotonic() < until:
            found = stack.ask(
                "from agents.models import Agent\nfrom ops.models import Heartbeat, Service\nfrom django.db import connection\n"
                "result = {'agents': Agent.objects.count(), 'services': list(Service.objects.values_list('name', flat=True)),"
                " 'beats': Heartbeat.objects.count(), 'vendor': connection.vendor}"
            )
            if found["agents"] and found["beats"]:
                break
            time.sleep(1)
        assert found["vendor"] == "postgresql"
        assert found["services"] == ["demo"]
        assert found["agents"] == 6, stack.logs()
        assert found["beats"] >= 1
        ready = httpx.get(f"{stack.url}/readyz?verbose", timeout=10)
        assert ready.status_code == 200, ready.text
        with redis_server.client() as client:
            assert any(b"_kombu" in key for key in client.keys("*"))
    finally:
        stack.stop()
        postgres.drop_database("scaled_mode")
