"""A real Synapse whose accounts belong to a Matrix Authentication Service: what is refused, and what is said instead.

Synapse runs as it does behind MAS; the service itself is a stand-in for the two things that Synapse asks of it: its metadata
(``/.well-known/openid-configuration``) and whose a token is (``/oauth2/introspect``).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import pytest

from agents.matrix.clients import close_all
from agents.matrix.registration import Registration
from agents.services import homeserver_admin as admin
from agents.services.backends import Homeserver, homeserver_of
from agents.services.homeserver_admin import CannotAdminister
from ops.models import Service
from tests.peers.synapse import Synapse

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]
SERVER = "mas.test"
AS_TOKEN, ADMIN_TOKEN, ORDINARY_TOKEN = "as-token-behind-mas", "mct_administrators", "mct_somebodys"
SECRET = "between-mas-and-synapse"


@pytest.fixture(scope="module")
def mas() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            if self.path.endswith("/.well-known/openid-configuration"):
                data = {
                    "issuer": "https://auth.mas.test/",
                    "account_management_uri": "https://auth.mas.test/account/",
                    "authorization_endpoint": "https://auth.mas.test/authorize",
                    "token_endpoint": "https://auth.mas.test/oauth2/token",
                }
            else:
                token = parse_qs(body).get("token", [""])[0]
                scope = "urn:matrix:client:api:*" + (" urn:synapse:admin:*" if token == ADMIN_TOKEN else "")
                data = {"active": token in (ADMIN_TOKEN, ORDINARY_TOKEN), "scope": scope, "username": "root"}
            text = json.dumps(data).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = _answer

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()


@pytest.fixture(scope="module")
def synapse(synapse_factory: Callable[..., Synapse], mas: str, tmp_path_factory: pytest.TempPathFactory) -> Synapse:
    path: Path = tmp_path_factory.mktemp("registration") / "switchboard.yaml"
    registration = Registration(
        id="switchboard",
        url="http://127.0.0.1:9",
        as_token=AS_TOKEN,
        hs_token="hs-token",
        sender_localpart="switchboard",
        server_name=SERVER,
        user_prefix="agent_",
    )
    path.write_text(registration.to_yaml())
    extra = {
        "matrix_authentication_service": {"enabled": True, "endpoint": mas, "secret": SECRET},
        "password_config": {"enabled": False},
        "enable_registration": False,
    }
    server = synapse_factory(registration=path, server_name=SERVER, extra=extra)
    answer = httpx.post(
        f"{server.url}/_synapse/mas/provision_user",
        json={"localpart": "root", "set_displayname": "Root"},
        headers={"Authorization": f"Bearer {SECRET}"},
    )
    answer.raise_for_status()
    return server


def house(synapse: Synapse, **credentials: str) -> Homeserver:
    service, _ = Service.objects.get_or_create(name="homeserver", defaults={"kind": "homeserver"})
    service.base_url, service.options = synapse.url, {"server_name": SERVER, "user_prefix": "agent_"}
    service.credentials = {"as_token": AS_TOKEN, "hs_token": "hs-token", **credentials}
    service.save()
    return homeserver_of(service)


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    close_all()


def test_it_is_recognised_and_every_refusal_says_what_to_do_instead(synapse: Synapse) -> None:
    homeserver = house(synapse, admin_token=ADMIN_TOKEN, registration_shared_secret=synapse.shared_secret)
    found = admin.ways(homeserver)
    flavour = Service.objects.get().capabilities["flavour"]
    assert (flavour["name"], flavour["auth"]["kind"]) == ("synapse", "mas")
    assert "auth.mas.test" in flavour["auth"]["sentence"]
    assert flavour["secret"]["works"] is False
    assert (flavour["admin"]["works"], flavour["admin"]["user_id"]) == (True, f"@root:{SERVER}")
    assert {name for name, way in found.items() if way.works} == {
        "room_admin",
        "room_join",
        "room_delete",
        "appservice",
    }
    agent = f"@agent_ada:{SERVER}"
    assert homeserver.client.register("agent_ada") is True
    refusals: list[tuple[str, Callable[[], object]]] = [
        ("register-user", lambda: admin.user_create(homeserver=homeserver, localpart="a", password="b", actor="test")),
        (
            "set-password",
            lambda: admin.password_reset(homeserver=homeserver, user_id=agent, password="b", actor="test"),
        ),
        ("issue-compatibility-token", lambda: admin.login_as(homeserver=homeserver, user_id=agent, actor="test")),
        ("lock-user", lambda: admin.user_deactivate(homeserver=homeserver, user_id=agent, actor="test")),
    ]
    for command, call in refusals:
        with pytest.raises(CannotAdminister, match=f"mas-cli manage {command}"):
            call()


def test_rooms_are_administered_with_a_token_that_the_service_made(synapse: Synapse) -> None:
    homeserver = house(synapse, admin_token=ADMIN_TOKEN)
    client = homeserver.client
    for name in ("agent_bea", "agent_cy"):
        client.register(name)
    bea, cy = f"@agent_bea:{SERVER}", f"@agent_cy:{SERVER}"
    room_id = client.create_room(user_id=bea, name="Bea's", preset="private_chat")
    admin.room_join_user(homeserver=homeserver, room_id=room_id, user_id=cy, actor="test")
    admin.room_make_admin(homeserver=homeserver, room_id=room_id, user_id=cy, actor="test")
    levels = client.get_state(room_id, "m.room.power_levels", "", cy)
    assert levels is not None
    assert levels["users"] == {cy: 100}
    assert admin.room_delete(homeserver=homeserver, room_id=room_id, actor="test") is True
    assert room_id not in client.joined_rooms(bea)


def test_a_token_without_the_administrators_scope_is_said(synapse: Synapse) -> None:
    homeserver = house(synapse, admin_token=ORDINARY_TOKEN)
    way = admin.ways(homeserver)["room_admin"]
    assert not way.works
    assert f"@root:{SERVER} is refused by the admin API" in way.sentence
    homeserver = house(synapse, admin_token="mct_of_nobody")
    with pytest.raises(CannotAdminister, match="does not know the administrator's token"):
        admin.room_delete(homeserver=homeserver, room_id="!room", actor="test")
    homeserver = house(synapse)
    assert "--yes-i-want-to-grant-synapse-admin-privileges" in admin.ways(homeserver)["room_admin"].sentence
