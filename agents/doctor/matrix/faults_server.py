"""Faults of the homeserver's address, of its token, and of what is known about it."""

from __future__ import annotations

import json
import secrets
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from django.conf import settings

from agents.doctor.matrix.faults_common import ACTOR, Memory, homeserver_here, target_of
from agents.doctor.matrix.login import token_is_accepted
from agents.doctor.matrix.look import VERSIONS, WELL_KNOWN, ask
from agents.matrix.clients import forget_client
from agents.services.homeserver_probe import flavour_keep, homeserver_probe, stored_flavour
from ops.doctor.faults import register_fault
from ops.models import ManagedBy, Service
from ops.services.services import service_save


def _readdress(service: Service, base_url: str, **fields: Any) -> None:
    service_save(
        actor=ACTOR,
        name=service.name,
        kind=service.kind,
        base_url=base_url,
        enabled=service.enabled,
        **{"managed_by": service.managed_by, **fields},
    )


def _cause_address(make: Callable[[Service], str]) -> Memory:
    """Point the row at another address, as an operator does who mistypes it. What is known of the right one is kept first."""
    service = homeserver_here().service
    memory = {"service": service.name, "base_url": service.base_url, "managed_by": str(service.managed_by)}
    if not stored_flavour(service):
        flavour_keep(service=service, flavour=homeserver_probe(homeserver_here()), actor=ACTOR)
    _readdress(service, make(service), managed_by=ManagedBy.OPERATOR)
    return memory


def _heal_address(memory: Memory) -> None:
    service = Service.objects.filter(name=memory["service"]).first()
    if service is not None:
        _readdress(service, memory["base_url"], managed_by=memory["managed_by"])
    _stop_page()


# Something else answers at the address: Switchboard's own page where it runs, else a page of this process.

_pages: list[ThreadingHTTPServer] = []


class _Page(BaseHTTPRequestHandler):
    real = ""

    def do_GET(self) -> None:
        if self.path == WELL_KNOWN:
            body, kind = json.dumps({"m.homeserver": {"base_url": type(self).real}}).encode(), "application/json"
        else:
            body, kind = (
                b"<!doctype html><html><title>Welcome</title><h1>Welcome to the web server</h1></html>",
                "text/html",
            )
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


def _page_for(service: Service) -> str:
    own = f"http://127.0.0.1:{settings.PORT}"
    try:
        if "html" in ask(own, VERSIONS).headers.get("content-type", ""):
            return own
    except (httpx.HTTPError, ValueError, OSError):
        pass
    handler = type("_Page", (_Page,), {"real": service.base_url})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="fault-page", daemon=True).start()
    _pages.append(server)
    return f"http://127.0.0.1:{server.server_address[1]}"


def _stop_page() -> None:
    while _pages:
        server = _pages.pop()
        server.shutdown()
        server.server_close()


register_fault(
    "matrix.hs_url_wrong",
    title="The homeserver's address leads to a web server's page.",
    cause=lambda: _cause_address(_page_for),
    heal=_heal_address,
    needs=("homeserver",),
    target=target_of,
    evidence=("candidate", "tried", "content_type"),
)

register_fault(
    "matrix.hs_unreachable",
    title="The homeserver's address names a host that does not exist.",
    # ".invalid" never resolves (RFC 6761).
    cause=lambda: _cause_address(lambda service: "http://homeserver.invalid:8008"),
    heal=_heal_address,
    needs=("homeserver",),
    target=target_of,
    evidence=("stage", "base_url"),
)


def _dead_port(service: Service) -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


register_fault(
    "matrix.hs_process_down",
    title="Nothing listens where the homeserver ought to.",
    cause=lambda: _cause_address(_dead_port),
    heal=_heal_address,
    needs=("homeserver",),
    target=target_of,
    evidence=("stage", "last_answer_at"),
)


def _cause_flavour() -> Memory:
    service = homeserver_here().service
    kept = stored_flavour(service) or homeserver_probe(homeserver_here())
    other = {
        **kept,
        "name": "tuwunel",
        "version": "1.8.1",
        "can": {**kept["can"], "make_users": not kept["can"]["make_users"]},
    }
    flavour_keep(service=service, flavour=other, actor=ACTOR)
    return {"service": service.name, "flavour": kept}


def _heal_flavour(memory: Memory) -> None:
    service = Service.objects.filter(name=memory["service"]).first()
    if service is not None and stored_flavour(service).get("name") != memory["flavour"]["name"]:
        flavour_keep(service=service, flavour=memory["flavour"], actor=ACTOR)


register_fault(
    "matrix.hs_flavour",
    title="Another homeserver is known than the one that answers.",
    cause=_cause_flavour,
    heal=_heal_flavour,
    needs=("homeserver",),
    target=target_of,
    evidence=("differences", "cannot"),
)


def _cause_token() -> Memory:
    """The right token stays in the (encrypted) credentials as the former one, as after every renewal."""
    service = homeserver_here().service
    stored = dict(service.credentials or {})
    right = {
        "as_token": stored.get("as_token") or settings.MATRIX_AS_TOKEN,
        "former_as_token": stored.get("former_as_token"),
    }
    wrong = {**stored, "as_token": secrets.token_urlsafe(32), "former_as_token": right["as_token"]}
    _readdress(service, service.base_url, credentials=wrong)
    forget_client(service.base_url, str(service.capabilities.get("server_name") or ""))
    return {"service": service.name}


def _heal_token(memory: Memory) -> None:
    service = Service.objects.filter(name=memory["service"]).first()
    stored = dict(service.credentials or {}) if service is not None else {}
    former = stored.get("former_as_token")
    if service is None or not former:
        return
    if not token_is_accepted(service):
        _readdress(service, service.base_url, credentials={**stored, "as_token": former})


register_fault(
    "matrix.login_failed",
    title="The stored appservice token is a wrong one.",
    cause=_cause_token,
    heal=_heal_token,
    needs=("homeserver",),
    target=target_of,
    evidence=("errcode", "expected"),
)
