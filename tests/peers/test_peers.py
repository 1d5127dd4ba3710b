"""The real peers start, answer, and are the same servers again after they were killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import environ
import httpx
import psycopg
import pytest
import redis

from .base import PROJECT_ROOT, Peer, PeerError, ended, runs
from .letta import Letta
from .model_stub import ModelStub
from .postgres import Postgres
from .receiver import Receiver
from .redis import Redis
from .synapse import Synapse

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.e2e


class _Matrix:
    """A few client calls, as a user or as an appservice's account."""

    def __init__(self, server: Synapse, token: str, as_user: str = "") -> None:
        self._client = httpx.Client(
            base_url=f"{server.url}/_matrix/client/v3",
            headers={"Authorization": f"Bearer {token}"},
            params={"user_id": as_user} if as_user else {},
            timeout=20,
        )

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = self._client.request(method, path, json=body or {})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


def _text(body: str) -> dict[str, str]:
    return {"msgtype": "m.text", "body": body}


def test_synapse_hands_an_appservice_its_transactions(tmp_path: Path, synapse_factory: Callable[..., Synapse]) -> None:
    with Receiver() as receiver:
        server = synapse_factory(registration=receiver.registration(tmp_path))
        person = server.register_user("ann", "correct horse")
        assert person.user_id == "@ann:sb.test"
        agent_id = "@agent_one:sb.test"
        service = _Matrix(server, receiver.as_token)
        service.call(
            "POST", "/register", {"type": "m.login.application_service", "username": "agent_one", "inhibit_login": True}
        )
        ann = _Matrix(server, person.access_token)
        room = ann.call("POST", "/createRoom", {"preset": "private_chat", "invite": [agent_id]})["room_id"]
        agent = _Matrix(server, receiver.as_token, as_user=agent_id)
        agent.call("POST", f"/join/{room}")
        ann.call("PUT", f"/rooms/{room}/send/m.room.message/t1", _text("before"))
        assert (
            receiver.wait_for(lambda event: event.get("content", {}).get("body") == "before")["sender"]
            == person.user_id
        )

        address = server.url
        server.kill9()
        assert not server.is_running
        server.restart()
        assert server.url == address
        ann.call("PUT", f"/rooms/{room}/send/m.room.message/t2", _text("after"))
        assert receiver.wait_for(lambda event: event.get("content", {}).get("body") == "after")["room_id"] == room
        assert receiver.refused == 0
        # Limits are off: twenty messages at once pass.
        for number in range(20):
            agent.call("PUT", f"/rooms/{room}/send/m.room.message/m{number}", _text(f"quick {number}"))
        server.stop()


def test_synapse_takes_a_registration_later(tmp_path: Path, synapse_factory: Callable[..., Synapse]) -> None:
    receiver = Receiver()
    server = synapse_factory(room_version="10")
    admin = server.register_user("root", "correct horse", admin=True)
    matrix = _Matrix(server, admin.access_token)
    assert matrix.call("POST", "/createRoom")["room_id"].endswith(":sb.test")
    whoami = f"{server.url}/_matrix/client/v3/account/whoami"
    headers = {"Authorization": f"Bearer {receiver.as_token}"}
    assert httpx.get(whoami, headers=headers).status_code == 401
    server.use_registration(receiver.registration(tmp_path))
    server.restart()
    assert httpx.get(whoami, headers=headers).json()["user_id"] == "@switchboard:sb.test"
    assert matrix.call("GET", "/account/whoami")["user_id"] == admin.user_id
    server.stop()


def _stream(server: Letta, agent_id: str, text: str) -> str:
    import json

    body = {"messages": [{"role": "user", "content": text}], "stream_tokens": True}
    said = ""
    with (
        server.client() as client,
        client.stream("POST", f"/v1/agents/{agent_id}/messages/stream", json=body) as answer,
    ):
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                event = json.loads(line[6:])
                said += event["content"] if event["message_type"] == "assistant_message" else ""
    return said


def _all_ids(server: Letta) -> list[list[str]]:
    pages: list[list[str]] = []
    with server.client() as client:
        while not pages or len(pages[-1]) == 50:
            after = {"after": pages[-1][-1]} if pages else {}
            answer = client.get("/v1/agents/", params={"limit": 50, **after}).raise_for_status()
            pages.append([agent["id"] for agent in answer.json()])
    return pages


def test_letta_lists_streams_and_survives_a_kill(letta: Letta, model_stub: ModelStub) -> None:
    letta.delete_all_agents()
    made = [agent["id"] for agent in letta.create_agents(62)]
    pages = _all_ids(letta)
    assert [len(page) for page in pages] == [50, 12]
    assert [one for page in pages for one in page] == made[::-1]
    assert _stream(letta, made[0], "a word for Letta") == "echo: a word for Letta"
    assert [entry["stream"] for entry in model_stub.ledger(text="a word for Letta")] == [True]
    letta.rename_agent(made[0], "Renamed")
    letta.delete_agent(made[1])
    address = letta.url
    letta.kill9()
    letta.restart()
    assert letta.url == address
    with letta.client() as client:
        assert client.get(f"/v1/agents/{made[0]}").json()["name"] == "Renamed"
        assert client.get("/v1/agents/count").json() == 61
    assert _stream(letta, made[0], "again") == "echo: again"
    letta.delete_all_agents()


def test_postgres_is_a_database_for_django_and_survives_a_kill(postgres: Postgres, django_db_blocker: Any) -> None:
    from django.db.utils import ConnectionHandler

    url = postgres.create_database("peers_test")
    settings = environ.Env.db_url_config(url)
    with django_db_blocker.unblock():
        connection = ConnectionHandler({"default": settings})["default"]
        with connection.cursor() as cursor:
            cursor.execute("create extension vector")
            cursor.execute("create table kept (word text)")
            cursor.execute("insert into kept values ('still here')")
        connection.close()
    postgres.kill9()
    with pytest.raises(psycopg.OperationalError):
        postgres.connect("peers_test")
    postgres.restart()
    with postgres.connect("peers_test") as direct:
        assert direct.execute("select word from kept").fetchall() == [("still here",)]
    postgres.drop_database("peers_test")
    with pytest.raises(PeerError, match="no database name"):
        postgres.create_database("Robert'); drop")


def test_redis_keeps_its_data_and_can_stand_still(redis_server: Redis) -> None:
    with redis_server.client() as client:
        client.set("word", "kept")
    redis_server.kill9()
    with redis_server.client() as client, pytest.raises(redis.ConnectionError):
        client.ping()
    redis_server.restart()
    redis_server.pause(0.4)
    began = time.monotonic()
    with redis_server.client() as client:
        assert client.get("word") == b"kept"
    assert time.monotonic() - began > 0.3


def test_chromium_shows_a_page(chromium: Browser, model_stub: ModelStub) -> None:
    page = chromium.new_page()
    page.goto(f"{model_stub.base_url}/models")
    assert "gpt-4o-mini" in page.inner_text("body")
    assert page.screenshot().startswith(b"\x89PNG")
    page.close()


def test_a_peer_that_cannot_start_says_why(tmp_path: Path) -> None:
    class Broken(Peer):
        name = "broken"

        def command(self) -> list[str]:
            return ["/bin/sh", "-c", "echo the reason; exit 3"]

        def is_ready(self) -> bool:
            return False

    with pytest.raises(PeerError, match="ended with code 3") as failed:
        Broken(tmp_path).start()
    assert "the reason" in str(failed.value)


def test_a_peer_outlives_the_thread_that_started_it() -> None:
    server = Redis()
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    time.sleep(0.2)
    with server.client() as client:
        assert client.ping()
    folder = server.folder
    server.stop()
    assert not server.is_running
    assert not folder.exists()


_HOST = """
import time
from tests.peers.model_stub import ModelStub
from tests.peers.postgres import Postgres
from tests.peers.redis import Redis
peers = [kind().start() for kind in (ModelStub, Postgres, Redis)]
print(*[f"{peer.pid} {peer.folder}" for peer in peers], sep="|", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_peers_die_with_the_process_that_started_them() -> None:
    import shutil

    host = subprocess.Popen([sys.executable, "-c", _HOST], cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True)
    assert host.stdout is not None
    started = [part.split(" ", 1) for part in host.stdout.readline().strip().split("|")]
    pids = [int(pid) for pid, _ in started]
    assert len(pids) == 3
    assert all(runs(pid) for pid in pids)
    os.kill(host.pid, signal.SIGKILL)
    host.wait(60)
    assert all(ended(pid) for pid in pids)
    for _, folder in started:
        shutil.rmtree(folder)
