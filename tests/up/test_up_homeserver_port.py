"""The local homeserver's port: what somebody else has is never taken for ours."""

from __future__ import annotations

import http.server
import json
import os
import threading
import time

import httpx
import pytest

from controlplane.up.errors import EXIT_CODES
from tests.peers.base import free_port
from tests.up.test_up_homeserver import homeserver_of, synapse_of

pytestmark = pytest.mark.e2e


@pytest.fixture
def make(make_up, synapse_environment):
    return lambda **settings: make_up(SWITCHBOARD_SYNAPSE_VENV=str(synapse_environment), **settings)


class Stranger:
    """A server that answers everything with 200, as another homeserver answers ``/health``. Remembers what it was sent."""

    def __init__(self, port: int) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        asked = self.asked

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append((self.path, dict(self.headers)))
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"OK")

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def token_of(up) -> str:
    return (up.data / "keys" / "matrix_as_token").read_text().strip()


def who_am_i(up, address: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token_of(up)}"}
    return httpx.get(f"{address}/_matrix/client/v3/account/whoami", headers=headers, timeout=20)


def test_two_that_start_at_the_same_moment_get_a_homeserver_each(make):
    port = str(free_port())
    both = [make(LOCAL_HOMESERVER_PORT=port), make(LOCAL_HOMESERVER_PORT=port)]
    for up in both:
        up.spawn()
    for up in both:
        up.wait_ready(200)
    addresses = [homeserver_of(up) for up in both]
    assert len(set(addresses)) == 2
    for up, address in zip(both, addresses, strict=True):
        assert len(synapse_of(up)) == 1
        assert who_am_i(up, address).status_code == 200
        assert "refused our token" not in up.output()
        assert "#agent_demo__demo_ada:switchboard.localhost" in up.output()
    assert who_am_i(both[0], addresses[1]).status_code == 401


def test_whoever_is_quicker_keeps_the_port_and_is_told_nothing(make):
    """The port is free when it is chosen, and somebody else's when Synapse has started so far that it listens."""
    up = make()
    up.spawn()
    known = up.data / "synapse" / "local.json"
    while not known.exists():
        assert up.process.poll() is None, up.output()
        time.sleep(0.002)
    port = json.loads(known.read_text())["port"]
    with Stranger(port) as stranger:
        up.wait_ready(120)
        address = homeserver_of(up)
        assert address != f"http://127.0.0.1:{port}"
        assert who_am_i(up, address).status_code == 200
        assert json.loads(known.read_text()) == {
            "port": int(address.rpartition(":")[2]), "server_name": "switchboard.localhost", "settled": True,
        }  # fmt: skip
        assert "#agent_demo__demo_ada:switchboard.localhost" in up.output()
        said = json.dumps(stranger.asked)
        assert token_of(up) not in said
        assert "Authorization" not in said
    up.stop()
    up.start()
    assert homeserver_of(up) == address, "people know it now"


def test_a_port_that_people_know_is_not_given_up_but_its_holder_named(make):
    up = make()
    up.start()
    up.stop()
    port = json.loads((up.data / "synapse" / "local.json").read_text())["port"]
    with Stranger(port):
        process = up.spawn()
        assert process.wait(120) == EXIT_CODES["homeserver"]
        said = " ".join(up.output().split())
        assert f"Port {port} on 127.0.0.1, the local homeserver's, is taken by" in said
        assert f"(process {os.getpid()})" in said
        assert "manage.py repair config.port --target homeserver" in said
        up.manage("repair", "config.port", "--target", "homeserver", "--yes")
        up.start()
        moved = homeserver_of(up)
    assert moved != f"http://127.0.0.1:{port}"
    assert who_am_i(up, moved).status_code == 200
