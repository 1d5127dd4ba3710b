"""The Matrix client against a real Synapse, with room versions 10 and 12."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agents.matrix.admin.synapse import SynapseAdmin
from agents.matrix.client import AppserviceClient
from agents.matrix.content import MARKER, ParsedMessage, edit_content, parse_message, text_content
from agents.matrix.errors import Exclusive, Forbidden, HomeserverUnreachable, Refused, Taken, TokenRefused
from agents.matrix.markdown import render
from agents.matrix.names import alias, localpart_for, user_id
from agents.matrix.registration import Registration, generate_token
from agents.matrix.split import split_for_events
from tests.peers.synapse import Synapse

pytestmark = pytest.mark.e2e
SERVER = "client.test"


class Receiver(BaseHTTPRequestHandler):
    """Our end of the appservice API, as far as a ping and transactions need it."""

    protocol_version = "HTTP/1.1"
    hs_token = ""

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status = 200 if self.headers.get("Authorization") == f"Bearer {self.hs_token}" else 403
        body = b"{}"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = _answer

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture(scope="module")
def receiver() -> Iterator[ThreadingHTTPServer]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    made.daemon_threads = True
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture(scope="module")
def registration(receiver: ThreadingHTTPServer) -> Registration:
    made = Registration(
        id="switchboard",
        url=f"http://127.0.0.1:{receiver.server_port}",
        as_token=generate_token(),
        hs_token=generate_token(),
        sender_localpart="switchboard",
        server_name=SERVER,
    )
    Receiver.hs_token = made.hs_token
    return made


@pytest.fixture(scope="module", params=["10", "12"])
def synapse(
    request: pytest.FixtureRequest, registration: Registration, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Synapse]:
    path: Path = tmp_path_factory.mktemp("registration") / "switchboard.yaml"
    path.write_text(registration.to_yaml())
    with Synapse(registration=path, server_name=SERVER, room_version=request.param) as server:
        yield server


@pytest.fixture(scope="module")
def client(synapse: Synapse, registration: Registration) -> Iterator[AppserviceClient]:
    made = AppserviceClient(synapse.url, registration.as_token, SERVER, sender_localpart="switchboard")
    yield made
    made.close()


@pytest.fixture
def localpart() -> str:
    return localpart_for(f"agent-{secrets.token_hex(4)}-{secrets.token_hex(2)}")


@pytest.fixture
def account(client: AppserviceClient, localpart: str) -> str:
    assert client.register(localpart) is True
    return user_id(localpart, SERVER)


@pytest.fixture
def room(client: AppserviceClient, account: str) -> str:
    return client.create_room(user_id=account, name="Room")


def say(client: AppserviceClient, room: str, account: str, text: str) -> str:
    return client.send(room, text_content(render(text)), txn_id=secrets.token_hex(8), user_id=account)


def test_who_we_are(client: AppserviceClient, synapse: Synapse, account: str) -> None:
    assert "v1.11" in client.versions()["versions"]
    assert client.default_room_version() == synapse.room_version
    assert client.whoami() == f"@switchboard:{SERVER}"
    assert client.whoami(account) == account


def test_registering_and_adopting(client: AppserviceClient, localpart: str) -> None:
    account = user_id(localpart, SERVER)
    with pytest.raises(Forbidden, match="not registered"):
        client.joined_rooms(account)
    assert client.register(localpart) is True
    assert client.register(localpart) is False
    assert client.joined_rooms(account) == []
    with pytest.raises(Exclusive):
        client.register("outsider")
    with pytest.raises(Forbidden) as caught:
        client.joined_rooms(f"@outsider:{SERVER}")
    assert "namespace" in caught.value.sentence


def test_a_wrong_token_says_what_to_do(synapse: Synapse) -> None:
    stranger = AppserviceClient(synapse.url, "wrong", SERVER, sender_localpart="switchboard")
    with pytest.raises(TokenRefused) as caught:
        stranger.whoami()
    assert "paste the new token" in caught.value.sentence
    with pytest.raises(TokenRefused):
        stranger.ping("switchboard")


def test_profile_and_media(client: AppserviceClient, account: str) -> None:
    client.set_display_name(account, "Ünï <b> 😀")
    mxc = client.upload_media(b"\x89PNG\r\n", "image/png", "a b/ü.png", account)
    client.set_avatar(account, mxc)
    profile = client.get_profile(account)
    assert (profile.display_name, profile.avatar_url) == ("Ünï <b> 😀", mxc)
    assert client.get_profile(f"@nobody:{SERVER}").display_name == ""


def test_a_repeated_send_is_one_event_even_after_a_crash(
    client: AppserviceClient, synapse: Synapse, account: str, room: str
) -> None:
    content = text_content(render("once"))
    first = client.send(room, content, txn_id="t-1", user_id=account)
    assert client.send(room, content, txn_id="t-1", user_id=account) == first
    client.ensure_device(account)
    synapse.kill9()
    with pytest.raises(HomeserverUnreachable):
        client.send(room, content, txn_id="t-1", user_id=account)
    synapse.start()
    assert client.send(room, content, txn_id="t-1", user_id=account) == first
    other = client.send(room, content, txn_id="t-2", user_id=account)
    assert other != first
    said = [
        event["event_id"] for event in client.messages(room, user_id=account).chunk if event["type"] == "m.room.message"
    ]
    assert said == [other, first]


def test_our_own_account_sends_too(client: AppserviceClient) -> None:
    room = client.create_room(user_id=None, name="Ours")
    first = client.send(room, {"msgtype": "m.text", "body": "x"}, txn_id="s-1", user_id=None)
    assert client.send(room, {"msgtype": "m.text", "body": "x"}, txn_id="s-1", user_id=None) == first


def test_time_of_an_imported_message(client: AppserviceClient, account: str, room: str) -> None:
    event_id = client.send(room, text_content(render("old")), txn_id="h-1", user_id=account, ts=1_600_000_000_000)
    event = client.get_event(room, event_id, account)
    assert event is not None
    assert event["origin_server_ts"] == 1_600_000_000_000
    assert client.get_event(room, "$nope", account) is None


def test_an_existing_alias_is_adopted(client: AppserviceClient, account: str, localpart: str) -> None:
    made, created = client.create_or_adopt_room(alias_localpart=localpart, user_id=account, name="A")
    assert created
    with pytest.raises(Taken):
        client.create_room(alias_localpart=localpart, user_id=account, name="A")
    assert client.create_or_adopt_room(alias_localpart=localpart, user_id=account, name="A") == (made, False)
    assert client.resolve_alias(alias(localpart, SERVER)) == made
    second = alias(f"{localpart}_b", SERVER)
    assert client.resolve_alias(second) is None
    client.put_alias(second, made, account)
    client.put_alias(second, made, account)
    other = client.create_room(user_id=account, name="B")
    with pytest.raises(Taken):
        client.put_alias(second, other, account)
    client.set_canonical_alias(made, second, account)
    client.delete_alias(second, account)
    client.delete_alias(second, account)
    assert client.resolve_alias(second) is None


@pytest.mark.parametrize("version", ["10", "11", "12"])
def test_power_levels_fit_every_room_version(client: AppserviceClient, account: str, version: str) -> None:
    friend = f"@friend:{SERVER}"
    room = client.create_room(
        user_id=account,
        name="P",
        room_version=version,
        invite=[friend, account],
        power_levels={"users": {friend: 50}, "events": {"m.room.name": 50}},
        preset="trusted_private_chat",
        initial_state=[{"type": "m.room.guest_access", "state_key": "", "content": {"guest_access": "forbidden"}}],
    )
    assert (":" in room) is (version != "12")
    levels = client.get_state(room, "m.room.power_levels", "", account)
    create = client.get_state(room, "m.room.create", "", account)
    assert levels is not None
    assert create is not None
    assert create["room_version"] == version
    assert levels["events"] == {"m.room.name": 50}
    if version == "12":
        assert account not in levels["users"]
        assert create["additional_creators"] == [friend]
    else:
        assert levels["users"][account] == 100
    client.put_state(room, "m.room.name", "", {"name": "renamed"}, account)
    assert client.get_state(room, "m.room.name", "", account) == {"name": "renamed"}
    assert client.get_state(room, "x.never", "", account) is None


def test_members(client: AppserviceClient, synapse: Synapse, account: str, room: str) -> None:
    person = synapse.register_user(f"person{secrets.token_hex(3)}", "pw").user_id
    other = localpart_for(f"agent-{secrets.token_hex(6)}")
    client.register(other)
    friend = user_id(other, SERVER)
    assert client.invite(room, person, account)
    assert client.invite(room, friend, account)
    assert client.join(room, friend) == room
    assert client.join(room, friend) == room
    assert client.invite(room, friend, account) is False
    with pytest.raises(Forbidden):
        client.invite(room, person, person.replace("person", "agent_none"))
    assert client.joined_members(room, account) == {account, friend}
    assert client.members(room, account)[person] == "invite"
    assert client.joined_rooms(friend) == [room]
    client.kick(room, person, account, "bye")
    client.leave(room, friend)
    assert client.members(room, account) == {account: "join", friend: "leave", person: "leave"}
    with pytest.raises(Forbidden):
        say(client, room, friend, "gone")


def test_space(client: AppserviceClient, account: str, room: str) -> None:
    space = client.create_room(
        user_id=None,
        name="Agents",
        is_space=True,
        preset="private_chat",
        power_levels={"events": {"m.space.child": 50}},
    )
    create = client.get_state(space, "m.room.create")
    assert create is not None
    assert create["type"] == "m.space"
    client.add_to_space(space, room, user_id=None, order="Ünïcode name " * 9)
    client.set_parent(room, space, user_id=account)
    child = client.space_children(space, None)[room]
    assert child["via"] == [SERVER]
    assert len(child["order"]) == 50
    assert client.get_state(room, "m.space.parent", space, account) == {"via": [SERVER], "canonical": True}
    client.remove_from_space(space, room, user_id=None)
    assert client.space_children(space, None) == {}
    assert {event["type"] for event in client.full_state(space, None)} >= {"m.room.create", "m.space.child"}


def test_history_is_paged_both_ways(client: AppserviceClient, account: str, room: str) -> None:
    sent = [say(client, room, account, f"n{number}") for number in range(23)]
    only = {"types": ["m.room.message"]}
    for direction, expected in (("b", sent[::-1]), ("f", sent)):
        token, seen = None, []
        for _ in range(40):
            page = client.messages(
                room,
                user_id=account,
                from_token=token,
                direction=direction,
                limit=5,
                filter=only,  # type: ignore[arg-type]
            )
            seen += [event["event_id"] for event in page.chunk]
            token = page.end
            if token is None:
                break
        assert seen == expected
        assert token is None


def test_edit_redaction_typing_receipt_and_sync(client: AppserviceClient, account: str, room: str) -> None:
    start = client.sync(account)["next_batch"]
    event_id = say(client, room, account, "first")
    edit = edit_content(event_id, render("**second**"), extra={MARKER: {"turn": "1"}})
    client.send(room, edit, txn_id=secrets.token_hex(8), user_id=account)
    client.typing(room, account, True)
    client.typing(room, account, False)
    client.read_receipt(room, event_id, account)
    timeline = client.sync(account, since=start, timeout_ms=1000)["rooms"]["join"][room]["timeline"]["events"]
    read = [found for event in timeline if isinstance(found := parse_message(event, room_id=room), ParsedMessage)]
    assert [(one.body, one.edits, one.room_id) for one in read] == [
        ("first", None, room),
        ("**second**", event_id, room),
    ]
    assert read[1].marker == {"turn": "1"}
    redaction = client.redact(room, event_id, txn_id="r-1", user_id=account, reason="test")
    assert client.redact(room, event_id, txn_id="r-1", user_id=account, reason="test") == redaction
    event = client.get_event(room, event_id, account)
    assert event is not None
    assert not isinstance(parse_message(event), ParsedMessage)


@pytest.mark.parametrize("line", ['Ünï ☃ **b** <t> & "q"\n', "😀😀😀", "- *x*\n", "> > `c`\n\n", "|a|\n"])
def test_every_piece_of_a_long_text_is_accepted_also_as_an_edit(
    client: AppserviceClient, account: str, room: str, line: str
) -> None:
    pieces = split_for_events(line * (130_000 // len(line)))
    assert len(pieces) > 1
    for piece in pieces[:2]:
        event_id = say(client, room, account, piece)
        edit = edit_content(event_id, render(piece), extra={MARKER: {"turn": "x" * 200}})
        assert client.send(room, edit, txn_id=secrets.token_hex(8), user_id=account).startswith("$")
    with pytest.raises(Refused):
        client.send(room, {"msgtype": "m.text", "body": "x" * 66_000}, txn_id=secrets.token_hex(8), user_id=account)


def test_ping(client: AppserviceClient, registration: Registration) -> None:
    found = client.ping(registration.id, "ping-1")
    assert found.ok, found.detail
    assert (found.duration_ms or 0) >= 0
    wrong = client.ping("another-id")
    assert not wrong.ok
    assert "Compare the id" in wrong.detail
    Receiver.hs_token = "something else"
    try:
        refused = client.ping(registration.id)
    finally:
        Receiver.hs_token = registration.hs_token
    assert not refused.ok
    assert "hs_token" in refused.detail


def test_synapse_admin(synapse: Synapse) -> None:
    admin = SynapseAdmin(synapse.url, synapse.shared_secret)
    name = f"op{secrets.token_hex(3)}"
    made = admin.register_user(name, "pässword-1", admin=True, displayname="Op")
    assert made == f"@{name}:{SERVER}"
    with pytest.raises(Taken):
        admin.register_user(name, "x")
    assert admin.user_exists(made)
    assert not admin.user_exists(f"@never{name}:{SERVER}")

    def login(password: str) -> str:
        body = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": name}, "password": password}
        return str(admin._http.call("POST", "/_matrix/client/v3/login", json.dumps(body))["access_token"])

    token = login("pässword-1")
    with_token = SynapseAdmin(synapse.url, admin_token=token)
    assert with_token.user_exists(made)
    assert not with_token.user_exists(f"@never{name}:{SERVER}")
    with_token.reset_password(made, "new-password", logout_devices=False)
    assert login("new-password")
    with pytest.raises(Forbidden):
        login("pässword-1")
