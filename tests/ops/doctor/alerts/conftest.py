"""Real receivers: a web server that takes webhooks, and an SMTP server. And issues as the doctor writes them."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from aiosmtpd.controller import Controller
from django.utils import timezone

from ops.alerts import listen
from ops.doctor import issues as issue_engine
from ops.models import Issue
from ops.services.alerts import channel_save
from tests.peers.base import free_port


class Hook:
    """A web server on a free port. ``got`` are the JSON bodies, ``calls`` (path, body) of everything; ``status`` is its answer."""

    def __init__(self) -> None:
        self.got, self.calls, self.status, self.answered, self.pause = [], [], 200, 0, threading.Event()
        self.pause.set()
        outer = self

        class Door(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.calls.append((self.path, body.decode()))
                outer.pause.wait(20)
                # Before the answer: whoever gets it may look at once.
                if outer.status < 300 and body.startswith(b"{"):
                    outer.got.append(json.loads(body))
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                with contextlib.suppress(OSError):
                    self.end_headers()
                outer.answered += 1

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def titles(self):
        return [one["title"] for one in self.got]


@pytest.fixture
def hook():
    made = Hook()
    yield made
    made.pause.set()
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def mailbox():
    """An SMTP server; ``mailbox.letters`` are what came, as bytes."""

    class Box:
        def __init__(self):
            self.letters = []

        async def handle_DATA(self, server, session, envelope):
            self.letters.append((envelope.rcpt_tos, envelope.content))
            return "250 taken"

    box = Box()
    box.port = free_port()
    controller = Controller(box, hostname="127.0.0.1", port=box.port)
    controller.start()
    yield box
    controller.stop()


@pytest.fixture(autouse=True)
def no_wake(monkeypatch):
    """Nobody takes wake-ups in these tests; each says itself when it is told."""
    monkeypatch.setattr(issue_engine, "_listeners", [])
    monkeypatch.setattr(listen, "_last", 0.0)


@pytest.fixture
def channel(hook, transactional_db):
    return channel_save(actor="test", name="ops hook", url=f"json://127.0.0.1:{hook.port}/in/aB3dEf6hIj9kLm2n")


@pytest.fixture
def make_issue(transactional_db):
    """``make_issue("db.reachable", severity="critical", ago=timedelta(…))``"""

    def make(check_id="worker.alive", *, ago=None, **fields):
        at = timezone.now() - ago if ago else timezone.now()
        return Issue.objects.create(
            **{
                "check_id": check_id,
                "severity": "error",
                "sentence": f"{check_id} does not work.",
                "opened_at": at,
                "last_failed_at": at,
                **fields,
            }
        )

    return make


@pytest.fixture
def resolve():
    def do(issue, at=None):
        at = at or timezone.now()
        Issue.objects.filter(pk=issue.pk).update(state="resolved", resolved_at=at)
        issue.refresh_from_db()

    return do
