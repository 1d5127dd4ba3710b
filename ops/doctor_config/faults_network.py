"""Faults of the network: names, dropped connections, proxies. Small programs on loopback do the dropping and the buffering."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit

from ops.doctor.faults import FaultRefused, register_fault
from ops.doctor_config.checks_network import with_host
from ops.doctor_config.checks_places import inside_leg
from ops.doctor_config.faults_settings import end_program, start_and_read, start_program
from ops.live import live_clear, live_row, live_set
from ops.models import ManagedBy, Service
from ops.network.places import PUBLIC, PUBLIC_PROBE
from ops.registry import service_kind
from ops.services.services import service_delete, service_save

_ACTOR = "demo"
_EXAMPLE = "example-provider"

# A full backlog: the kernel drops every further attempt to connect without a word.
_BLACK_HOLE = (
    "import socket, time; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(0); at = s.getsockname(); held = []\n"
    "for _ in range(4):\n    c = socket.socket(); c.setblocking(False); c.connect_ex(at); held.append(c)\n"
    "time.sleep(0.2); print(at[1], flush=True); time.sleep(86400)"
)
# Reads the whole answer of the server behind before it hands anything over.
_BUFFERING = """
import http.client, http.server, sys
class Proxy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        behind = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=20)
        wanted = {name: value for name, value in self.headers.items() if name.lower() not in ("connection", "host")}
        behind.request("GET", self.path, headers=wanted)
        answer = behind.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "text/plain"))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        behind.close()
    def log_message(self, *arguments):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[3])), Proxy)
print("listening", flush=True)
server.serve_forever()
"""


def closed_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as wire:
        wire.bind(("127.0.0.1", 0))
        return int(wire.getsockname()[1])


def _backend() -> Service:
    """A server with agents that has an address: the one that faults turn against."""
    for service in Service.objects.filter(enabled=True).exclude(base_url="").order_by("pk"):
        known = service_kind(service.kind)
        if known is not None and known.role == "backend":
            return service
    raise FaultRefused("There is no server with agents that has an address. Add one first, for example a Letta server.")


def _take_over(service: Service, **fields: Any) -> dict[str, Any]:
    """An operator changes the row. The memory brings back who managed it, too."""
    memory = {
        "service": service.name,
        "base_url": service.base_url,
        "options": dict(service.options or {}),
        "managed_by": service.managed_by,
        "enabled": service.enabled,
    }
    _save(service, managed_by=ManagedBy.OPERATOR, **fields)
    return memory


def _give_back(memory: dict[str, Any]) -> None:
    service = Service.objects.filter(name=memory["service"]).first()
    if service is not None:
        kept = ("base_url", "options", "managed_by", "enabled")
        _save(service, **{name: memory[name] for name in kept})


def _save(service: Service, **fields: Any) -> None:
    values = {
        "base_url": service.base_url,
        "options": dict(service.options or {}),
        "managed_by": service.managed_by,
        "enabled": service.enabled,
        **fields,
    }
    service_save(actor=_ACTOR, name=service.name, kind=service.kind, **values)


def _mistype_name() -> dict[str, Any]:
    service = _backend()
    host = urlsplit(service.base_url).hostname or ""
    # One letter twice: near enough to be recognised.
    right = "localhost" if host in ("127.0.0.1", "::1", "localhost") else host
    return _take_over(service, base_url=with_host(service.base_url, right[:-1] + right[-2:]))


register_fault(
    "net.dns",
    title="The name of a server with agents is mistyped",
    cause=_mistype_name,
    heal=_give_back,
    needs=("letta",),
    target=lambda memory: str(memory["service"]),
    evidence=("kind", "nearest", "from"),
)


def _drop_connections() -> dict[str, Any]:
    service = _backend()
    pid, port = _black_hole()
    return {**_take_over(service, base_url=f"http://127.0.0.1:{port}"), "pid": pid}


def _black_hole() -> tuple[int, int]:
    pid, line = start_and_read(_BLACK_HOLE)
    return pid, int(line)


def _let_connect(memory: dict[str, Any]) -> None:
    end_program(int(memory["pid"]))
    _give_back(memory)


register_fault(
    "net.firewall",
    title="Connections to a server with agents are dropped without a word",
    cause=_drop_connections,
    heal=_let_connect,
    needs=("letta",),
    target=lambda memory: str(memory["service"]),
    evidence=("kind", "hop", "milliseconds"),
)


def _dead_proxy() -> dict[str, Any]:
    service = _backend()
    options = {**(service.options or {}), "proxy": f"http://127.0.0.1:{closed_port()}"}
    return _take_over(service, options=options)


register_fault(
    "net.egress_proxy",
    title="A server with agents is asked through a proxy that is not there",
    cause=_dead_proxy,
    heal=_give_back,
    needs=("letta",),
    target=lambda memory: str(memory["service"]),
    evidence=("proxy", "through_proxy", "directly"),
)


def _add_dead_provider() -> dict[str, Any]:
    """A model provider that nobody answers for. It lists no models, so it brings no agents."""
    if Service.objects.filter(name=_EXAMPLE).exists():
        raise FaultRefused(f"There is a service {_EXAMPLE} already.")
    here = inside_leg()
    works = urlsplit(here.url) if here is not None else urlsplit(_backend().base_url)
    address = f"http://127.0.0.1:{closed_port()}/v1"
    service_save(
        actor=_ACTOR, name=_EXAMPLE, kind="openai", base_url=address, options={"models": ["none-of-them"]}
    )  # fmt: skip
    return {"service": _EXAMPLE, "works": f"{works.scheme}://{works.netloc}/v1"}


def _remove_provider(memory: dict[str, Any]) -> None:
    service = Service.objects.filter(name=memory["service"]).first()
    if service is not None and service.name == _EXAMPLE:
        service_delete(service=service, actor=_ACTOR)


register_fault(
    "llm.unreachable",
    title="Nobody listens at the address of a model provider",
    cause=_add_dead_provider,
    heal=_remove_provider,
    target=lambda memory: str(memory["service"]),
    repair="config.edit",
    repair_target=lambda memory: f"service:{memory['service']}",
    # There is no model provider to go to in a demonstration: any server that answers shows that the address was it.
    repair_params=lambda memory: {"field": "base_url", "value": memory["works"], "override": True},
    evidence=("stage", "kind", "stages"),
)


def _look_at(address: str, **memory: Any) -> dict[str, Any]:
    row = live_row(PUBLIC_PROBE)
    live_set(key=PUBLIC_PROBE, value=address, actor=_ACTOR)
    return {"before": row.value if row is not None else None, **memory}


def _look_back(memory: dict[str, Any]) -> None:
    if memory.get("pid"):
        end_program(int(memory["pid"]))
    if memory["before"]:
        live_set(key=PUBLIC_PROBE, value=memory["before"], actor=_ACTOR)
    else:
        live_clear(key=PUBLIC_PROBE, actor=_ACTOR)


def _unpublish() -> dict[str, Any]:
    if inside_leg() is None:
        raise FaultRefused(
            "The web server does not run, so there is nothing to reach from outside. Start Switchboard first."
        )
    return _look_at(f"http://127.0.0.1:{closed_port()}")


register_fault(
    "net.host_unreachable",
    title="Switchboard runs, and nobody listens at the address that people use",
    cause=_unpublish,
    heal=_look_back,
    target=lambda memory: PUBLIC,
    evidence=("inside", "outside"),
)


def _buffer() -> dict[str, Any]:
    inside = inside_leg()
    if inside is None:
        raise FaultRefused("The web server does not run, so nothing streams. Start Switchboard first.")
    behind = urlsplit(inside.url)
    port = closed_port()
    pid = start_program(_BUFFERING, behind.hostname or "127.0.0.1", str(behind.port or 80), str(port))
    return _look_at(f"http://127.0.0.1:{port}", pid=pid)


register_fault(
    "mcp.http_stream",
    title="A proxy in front of Switchboard collects every answer before it hands it over",
    cause=_buffer,
    heal=_look_back,
    target=lambda memory: PUBLIC,
    evidence=("gaps_ms", "spread_ms", "sent_spacing_ms"),
    also=("ws.proxy_upgrade",),
    why_also="a proxy that collects answers passes no sockets on either",
)
