"""Captured calls: complete enough to understand, without a secret, bounded, and at no cost while nobody asked."""

from __future__ import annotations

import gzip
import json
import threading
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from django.utils import timezone

from agents.backends.base import ServiceSpec
from agents.backends.http import HttpServer
from agents.matrix.transport import Transport
from ops.logbook import tap
from ops.logbook.capture import MOST_EXCHANGES, Recorder, safe_url, to_har
from ops.logs import bind
from ops.models import Capture, Exchange, Service
from ops.redaction import add_secret
from ops.services.logbook import capture_start, capture_stop

CANARY = "canary-0f6b2f77d1c04d5ba2"


class _Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.path.startswith("/broken"):
            self.close_connection = True
            return
        if self.path.startswith("/big"):
            content = json.dumps({"pad": "x" * 200_000, "access_token": CANARY}).encode()
        elif self.path.startswith("/events"):
            content = b'event: message\ndata: {"text": "hello", "token": "' + CANARY.encode() + b'"}\n\n'
        elif self.path.startswith("/picture"):
            content = b"\x89PNG\x00\x01"
        else:
            content = json.dumps({"heard": len(body), "access_token": CANARY, "name": "Ada"}).encode()
        kind = {"/events": "text/event-stream", "/picture": "image/png"}.get(
            self.path.partition("?")[0], "application/json"
        )
        self.send_response(200)
        if "gzip" in self.headers.get("Accept-Encoding", "") and self.path.startswith("/zip"):
            content = gzip.compress(content)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Type", kind)
        self.send_header("Set-Cookie", f"session={CANARY}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = _answer

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    one = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=one.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{one.server_address[1]}"
    one.shutdown()
    one.server_close()


@pytest.fixture
def service(server, db):
    return Service.objects.create(name="lab", kind="letta", base_url=server, credentials={"token": CANARY})


@pytest.fixture
def recorder():
    one = Recorder()
    yield one
    tap.listen(None)


def spec(server):
    return ServiceSpec(name="lab", kind="letta", base_url=server, credentials={"token": CANARY}, options={})


def test_both_kinds_of_clients_are_heard_and_no_secret_is_written(server, service, recorder):
    capture_start(minutes=5, actor="test")
    recorder.look()
    matrix = Transport(server, CANARY)
    backend = HttpServer(spec(server), {"Authorization": f"Bearer {CANARY}", "x-api-key": CANARY})
    with bind(agent="Ada"):
        matrix.call("POST", "/_matrix/client/v3/login", json.dumps({"password": CANARY, "user": "ada"}))
        backend.json("POST", f"/zip?access_token={CANARY}&page=2", body={"input": "hello", "key": CANARY})
        list(backend.events("POST", "/events", body={"a": 1}, should_stop=lambda: False, silence_seconds=5))
        backend.json("GET", "/big")
    matrix.close()
    backend.close()
    assert recorder.flush() == 4
    login, zipped, events, big = Exchange.objects.order_by("id")
    assert (login.service, login.agent, login.method, login.status) == ("lab", "Ada", "POST", 200)
    assert json.loads(login.request_body) == {"password": "[hidden]", "user": "ada"}
    assert login.request_headers["authorization"] == "[hidden]"
    assert login.response_headers["set-cookie"] == "[hidden]"
    assert zipped.url == f"{server}/zip?access_token=[hidden]&page=2"
    assert json.loads(zipped.response_body)["name"] == "Ada"
    assert zipped.request_headers["x-api-key"] == "[hidden]"
    assert "hello" in events.response_body
    assert "bytes in all" in big.response_body
    assert len(big.response_body) < 20_000
    whole = json.dumps(to_har(Exchange.objects.order_by("id"), "1"))
    assert CANARY not in whole
    for row in Exchange.objects.all():
        for value in (
            row.url,
            row.request_headers,
            row.request_body,
            row.response_headers,
            row.response_body,
            row.error,
        ):
            assert CANARY not in str(value)


def test_a_secret_that_is_cut_in_the_middle_is_not_left_half(server, service, recorder):
    secret = "A" * 40 + "-half-of-this-must-not-be-seen"
    add_secret(secret)
    capture_start(minutes=5, actor="test")
    recorder.look()
    client = tap.tap(httpx.Client())
    head = '{"pad": "' + "x" * (tap.HEARD_BYTES - 60) + '", "note": "'
    client.post(f"{server}/x", content=head + secret + "x" * 5000, headers={"Content-Type": "application/json"})
    client.post(f"{server}/x", content='{"password": "' + "q" * 70_000, headers={"Content-Type": "application/json"})
    recorder.flush()
    first, second = Exchange.objects.order_by("id")
    assert "AAAA" not in first.request_body
    assert "qqqq" not in second.request_body


def test_failures_are_written_down_with_their_reason(server, service, recorder):
    capture_start(minutes=5, actor="test")
    recorder.look()
    client = tap.tap(httpx.Client())
    with pytest.raises(httpx.HTTPError):
        client.get("http://127.0.0.1:9/nobody")
    with pytest.raises(httpx.HTTPError):
        client.get(f"{server}/broken")
    recorder.flush()
    refused, broken = Exchange.objects.order_by("id")
    assert refused.status is None
    assert "ConnectError" in refused.error
    assert "RemoteProtocolError" in broken.error


def test_a_capture_ends_by_itself_and_nobody_listens_any_more(server, service, recorder):
    row = capture_start(minutes=5, actor="test")
    recorder.look()
    assert tap.listening()
    Capture.objects.filter(pk=row.pk).update(until=timezone.now() - timedelta(seconds=1))
    # This process looks every two seconds; the order knows its end without.
    recorder._orders[0].until = timezone.now() - timedelta(seconds=1)
    tap.tap(httpx.Client()).get(f"{server}/x")
    assert recorder.flush() == 0
    recorder.look()
    assert not tap.listening()
    other = capture_start(minutes=5, actor="test")
    recorder.look()
    assert capture_stop(capture=other, actor="test")
    assert not capture_stop(capture=other, actor="test")
    recorder.look()
    assert not tap.listening()


def test_filters_and_the_most_that_is_kept(server, service, recorder, monkeypatch):
    monkeypatch.setattr("ops.logbook.capture.MOST_EXCHANGES", 5)
    wanted = capture_start(minutes=5, service="lab", agent="agent-42", actor="test")
    recorder.look()
    client = tap.tap(httpx.Client())
    client.get(f"{server}/v1/agents/agent-7")
    for _ in range(8):
        client.get(f"{server}/v1/agents/agent-42/messages")
    recorder.flush()
    assert Exchange.objects.count() == 5
    wanted.refresh_from_db()
    assert wanted.until <= timezone.now()
    assert MOST_EXCHANGES == 1000


def test_pictures_are_told_of_and_not_kept(server, service, recorder):
    capture_start(minutes=5, actor="test")
    recorder.look()
    tap.tap(httpx.Client()).get(f"{server}/picture")
    recorder.flush()
    assert Exchange.objects.get().response_body == "<6 bytes of image/png>"


def test_listening_costs_nothing_while_nobody_asked():
    class Nothing(httpx.BaseTransport):
        def handle_request(self, request):
            return request

    plain, tapped = Nothing(), tap.Tapped(Nothing())
    tap.listen(None)

    def best(transport):
        times = []
        for _ in range(7):
            started = time.perf_counter()
            for _ in range(20_000):
                transport.handle_request(None)
            times.append((time.perf_counter() - started) / 20_000)
        return min(times)

    # A call to a server takes a millisecond at least.
    assert best(tapped) - best(plain) < 0.000002


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("http://u:p@h/x?a=1", "http://h/x?a=1"),
        ("http://h/x?token=abc&b=2", "http://h/x?token=[hidden]&b=2"),
        ("http://h/x?user_id=%40a%3Ah", "http://h/x?user_id=%40a%3Ah"),
    ],
)
def test_addresses_lose_their_credentials(url, safe):
    assert safe_url(url) == safe
