"""The transport against a small HTTP server: where the token goes, what a broken connection becomes."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from agents.matrix import clients
from agents.matrix.admin.synapse import SynapseAdmin, registration_mac
from agents.matrix.calls_events import is_unknown_device
from agents.matrix.client import AppserviceClient
from agents.matrix.errors import HomeserverUnreachable, MatrixError, Refused, TokenRefused, from_response
from agents.matrix.transport import Transport, quote_part, strip_token

TOKEN = "as-secret-token"


class Server(ThreadingHTTPServer):
    """Answers every request with what ``answer`` returns and remembers what came: (method, path, headers, body)."""

    daemon_threads = True
    answer: Callable[[str, str], tuple[int, bytes]] = staticmethod(lambda method, path: (200, b"{}"))
    drop_first = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        self.server.seen.append((self.command, self.path, dict(self.headers), body))
        if self.server.drop_first > 0:
            self.server.drop_first -= 1
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        status, answer = self.server.answer(self.command, self.path)
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = do_DELETE = handle_any

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def client(server: Server) -> Iterator[AppserviceClient]:
    made = AppserviceClient(server.url + "/", TOKEN, "h.org", sender_localpart="sb", timeout=5)
    yield made
    made.close()


def answers(server: Server, **fields: object) -> None:
    server.answer = lambda method, path: (200, json.dumps(fields).encode())  # type: ignore[method-assign]


def test_the_token_is_in_the_header_and_nowhere_else(server: Server, client: AppserviceClient) -> None:
    answers(server, event_id="$e", room_id="!r", user_id="@a:h", joined={}, chunk=[], content_uri="mxc://a/b")
    client.whoami()
    client.send("!r", {"msgtype": "m.text", "body": "x"}, txn_id="t", user_id="@a:h.org")
    client.messages("!r", user_id=None, from_token="tok", filter={"types": ["x"]})
    client.sync("@a:h.org", since="s", timeout_ms=5, filter={"room": {}})
    client.joined_members("!r", None)
    client.put_state("!r", "m.x", "", {}, None)
    client.upload_media(b"x", "image/png", "a b.png")
    client.join("#a:h.org", None, via=["x.org"])
    assert len(server.seen) == 8
    for _, path, headers, body in server.seen:
        assert headers["Authorization"] == f"Bearer {TOKEN}"
        assert TOKEN not in path
        assert "access_token" not in path
        assert path.count("?") <= 1
        assert TOKEN.encode() not in body
    assert TOKEN not in repr(client)


def test_send_names_account_device_and_time(server: Server, client: AppserviceClient) -> None:
    answers(server, event_id="$e")
    client.send("!opaque/+%", {"body": "ü"}, txn_id="t/1", user_id="@a+b:h.org", ts=5)
    client.send("!r", {"body": "x"}, txn_id="t", user_id=None)
    method, path, headers, body = server.seen[0]
    assert method == "PUT"
    assert path == (
        "/_matrix/client/v3/rooms/%21opaque%2F%2B%25/send/m.room.message/t%2F1"
        "?user_id=%40a%2Bb%3Ah.org&device_id=SWITCHBOARD&ts=5"
    )
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body) == {"body": "ü"}
    assert "user_id=%40sb%3Ah.org" in server.seen[1][1]


def test_an_unknown_device_is_made_and_the_send_repeated(server: Server, client: AppserviceClient) -> None:
    known = []

    def answer(method: str, path: str) -> tuple[int, bytes]:
        if "/devices/" in path:
            known.append(path)
        if "/send/" in path and not known:
            return 400, b'{"errcode": "M_UNKNOWN_DEVICE", "error": "unknown"}'
        return 200, b'{"event_id": "$e"}'

    server.answer = answer  # type: ignore[method-assign]
    assert client.send("!r", {}, txn_id="t", user_id="@a:h.org") == "$e"
    sends = [path for _, path, _, _ in server.seen if "/send/" in path]
    assert len(sends) == 2
    assert sends[0] == sends[1]
    assert len(known) == 1


def test_a_device_that_cannot_be_put_is_made_by_login(server: Server, client: AppserviceClient) -> None:
    server.answer = lambda method, path: (  # type: ignore[method-assign]
        (404, b'{"errcode": "M_NOT_FOUND"}') if "/devices/" in path else (200, b"{}")
    )
    client.ensure_device("@a:h.org")
    assert json.loads(server.seen[-1][3])["device_id"] == "SWITCHBOARD"
    server.answer = lambda method, path: (403, b'{"errcode": "M_FORBIDDEN"}')  # type: ignore[method-assign]
    with pytest.raises(Refused):
        client.ensure_device("@a:h.org")


@pytest.mark.parametrize(
    ("errcode", "words", "expected"),
    [
        ("M_UNKNOWN_DEVICE", "x", True),
        ("ORG.MATRIX.MSC4326.M_UNKNOWN_DEVICE", "x", True),
        ("M_EXCLUSIVE", "Application service trying to use a device that doesn't exist ('S' for @a:b)", True),
        ("M_FORBIDDEN", "User not in room", False),
        ("M_UNKNOWN_TOKEN", "device does not exist", False),
    ],
)
def test_words_for_an_unknown_device(errcode: str, words: str, expected: bool) -> None:
    error = from_response(400, json.dumps({"errcode": errcode, "error": words}).encode())
    assert is_unknown_device(error) is expected


def test_a_dropped_connection_is_repeated_only_where_that_is_safe(server: Server, client: AppserviceClient) -> None:
    answers(server, event_id="$e", room_id="!r")
    server.drop_first = 1
    assert client.send("!r", {}, txn_id="t", user_id=None) == "$e"
    assert len(server.seen) == 2
    server.drop_first = 1
    with pytest.raises(HomeserverUnreachable) as caught:
        client.create_room(user_id=None, name="n")
    assert len(server.seen) == 3
    assert caught.value.retryable
    server.drop_first = 2
    with pytest.raises(HomeserverUnreachable):
        client.versions()


@pytest.mark.parametrize(
    "payload", [b"", b"<html>", b"[]", b"null", b"\xff", b'{"event_id": 5}', b'{"event_id": ""}', b"[" * 50_000]
)
def test_a_success_that_is_none(server: Server, client: AppserviceClient, payload: bytes) -> None:
    server.answer = lambda method, path: (200, payload)  # type: ignore[method-assign]
    with pytest.raises(HomeserverUnreachable, match="not what Matrix prescribes"):
        client.send("!r", {}, txn_id="t", user_id=None)


def test_a_list_full_of_rubbish_is_read_as_far_as_it_goes(server: Server, client: AppserviceClient) -> None:
    answers(
        server,
        chunk=[5, None, {"state_key": "@a:b", "content": {"membership": "join"}}, {"state_key": 1}],
        end=5,
        start=[],
    )
    assert client.members("!r", None) == {"@a:b": "join"}
    page = client.messages("!r", user_id=None)
    assert (len(page.chunk), page.start, page.end) == (2, None, None)
    answers(server, joined=[1], joined_rooms=[1, "!r"], displayname=5)
    assert client.joined_members("!r", None) == set()
    assert client.joined_rooms(None) == ["!r"]
    assert client.get_profile("@a:b").display_name == ""


def test_unreachable_and_slow(server: Server) -> None:
    gone = AppserviceClient("http://127.0.0.1:9", TOKEN, "h", sender_localpart="s", timeout=2)
    with pytest.raises(HomeserverUnreachable) as caught:
        gone.versions()
    assert caught.value.status == 0
    assert "http://127.0.0.1:9 does not answer" in caught.value.sentence
    listener = socket.create_server(("127.0.0.1", 0))
    slow = AppserviceClient(
        f"http://127.0.0.1:{listener.getsockname()[1]}", TOKEN, "h", sender_localpart="s", timeout=0.2
    )
    with pytest.raises(HomeserverUnreachable, match="no answer in time"):
        slow.versions()
    listener.close()


def test_a_redirect_is_not_followed_with_our_token(server: Server, client: AppserviceClient) -> None:
    server.answer = lambda method, path: (302, b"")  # type: ignore[method-assign]
    with pytest.raises(Refused, match="redirects"):
        client.versions()


@pytest.mark.parametrize(
    ("errcode", "words"),
    [
        ("M_CONNECTION_FAILED", "cannot reach us"),
        ("M_BAD_STATUS", "hs_token"),
        ("M_URL_NOT_SET", "no url"),
        ("M_FORBIDDEN", "id"),
    ],
)
def test_what_the_ping_found(server: Server, client: AppserviceClient, errcode: str, words: str) -> None:
    status = 403 if errcode == "M_FORBIDDEN" else 502
    server.answer = lambda method, path: (status, json.dumps({"errcode": errcode}).encode())  # type: ignore[method-assign]
    found = client.ping("sb")
    assert not found.ok
    assert words in found.detail
    server.answer = lambda method, path: (502, b"proxy")  # type: ignore[method-assign]
    with pytest.raises(HomeserverUnreachable):
        client.ping("sb")
    server.answer = lambda method, path: (401, b'{"errcode": "M_UNKNOWN_TOKEN"}')  # type: ignore[method-assign]
    with pytest.raises(TokenRefused):
        client.ping("sb")


def test_a_ping_over_a_stale_connection_is_repeated_once(server: Server, client: AppserviceClient) -> None:
    replies = [(502, b'{"errcode": "M_CONNECTION_FAILED"}'), (200, b'{"duration_ms": 7}')]
    server.answer = lambda method, path: replies.pop(0)  # type: ignore[method-assign]
    assert client.ping("sb").duration_ms == 7
    refusal = b'{"errcode": "M_CONNECTION_FAILED", "error": "refused"}'
    server.answer = lambda method, path: (502, refusal)  # type: ignore[method-assign]
    assert "refused" in client.ping("sb").detail
    assert len(server.seen) == 4


def test_an_identifier_cannot_climb_out_of_its_path(client: AppserviceClient) -> None:
    assert quote_part("!a/../b?c#d") == "%21a%2F..%2Fb%3Fc%23d"
    for part in (".", ".."):
        with pytest.raises(ValueError, match="identifier"):
            quote_part(part)
    for room in (".", ".."):
        with pytest.raises(Refused, match="identifiers"):
            client.send(room, {}, txn_id="t", user_id=None)
    assert strip_token("/x?access_token=&a=1") == "/x?a=1"
    assert strip_token("/x?access_token=") == "/x"
    assert strip_token("/x?a=1") == "/x?a=1"


@pytest.mark.parametrize("address", ["", "matrix.org", "ftp://x", "http://", "file:///etc"])
def test_unusable_addresses(address: str) -> None:
    with pytest.raises(ValueError, match="http"):
        Transport(address, "t")


def test_credentials_in_an_address_are_dropped() -> None:
    assert "secret" not in Transport("http://user:secret@127.0.0.1:1/base/", "t").base_url


def test_shared_clients(server: Server) -> None:
    first = clients.get_client(server.url, TOKEN, "h", "sb")
    assert clients.get_client(server.url, TOKEN, "h", "sb") is first
    second = clients.get_client(server.url, "new-token", "h", "sb")
    assert second is not first
    assert first.closed
    with pytest.raises(MatrixError) as caught:
        first.versions()
    assert caught.value.retryable
    clients.forget_client(server.url, "h")
    assert second.closed


def test_many_threads_share_one_client(server: Server, client: AppserviceClient) -> None:
    answers(server, event_id="$e")
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(10):
                client.send("!r", {"n": number}, txn_id=f"{number}-{turn}", user_id=None)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert failures == []
    assert len({path for _, path, _, _ in server.seen}) == 160


def test_shared_secret_registration(server: Server) -> None:
    server.answer = lambda method, path: (200, b'{"nonce": "n", "user_id": "@a:h"}')  # type: ignore[method-assign]
    admin = SynapseAdmin(server.url, "sh4red")
    assert admin.register_user("a", "pw", admin=True, displayname="A") == "@a:h"
    body = json.loads(server.seen[-1][3])
    assert body["mac"] == registration_mac("sh4red", "n", "a", "pw", admin=True)
    assert body["mac"] != registration_mac("sh4red", "n", "a", "pw", admin=False)
    assert b"sh4red" not in server.seen[-1][3]
    assert "Authorization" not in server.seen[-1][2]
    assert "sh4red" not in repr(admin)
    with pytest.raises(Refused, match="shared secret is not known"):
        SynapseAdmin(server.url).register_user("a", "pw")
