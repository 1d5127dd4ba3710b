"""Ways to have no sockets: tokens that count no more, a proxy that does not upgrade, one that ends quiet connections."""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import urlsplit

from django.utils import timezone
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import connect

from chat.doctor.portal.sockets import DROPS, REFUSALS
from chat.models import SocketClose
from chat.socket.protocol import PATH, Close
from ops.doctor.faults import FaultRefused, register_fault
from ops.doctor_config.checks_places import inside_leg
from ops.doctor_config.faults_network import closed_port
from ops.doctor_config.faults_settings import end_program, start_program
from ops.doctor_services.waiting import until
from ops.live import live_clear, live_row, live_set
from ops.network.places import PUBLIC_PROBE

ACTOR = "fault"
# Processes write down how sockets ended four times a minute.
_WRITTEN_SECONDS = 90.0
# Passes on what it gets piece by piece, and knows nothing of upgrades: what a proxy does that nobody told about sockets.
_PLAIN = """
import http.client, http.server, sys
class Proxy(http.server.BaseHTTPRequestHandler):
    server_version = "plain-proxy/1.0"
    def do_GET(self):
        behind = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=20)
        hop = ("connection", "upgrade", "host")
        wanted = {name: value for name, value in self.headers.items() if name.lower() not in hop and not name.lower().startswith("sec-websocket")}
        behind.request("GET", self.path, headers=wanted)
        answer = behind.getresponse()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "text/plain"))
        self.send_header("Connection", "close")
        self.end_headers()
        while piece := answer.read1(65536):
            self.wfile.write(piece)
            self.wfile.flush()
        behind.close()
    def log_message(self, *arguments):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[3])), Proxy)
print("listening", flush=True)
server.serve_forever()
"""


def _inside() -> Any:
    leg = inside_leg()
    if leg is None:
        raise FaultRefused("The web server does not answer where it listens.")
    return urlsplit(leg.url)


def _wrong_tokens() -> dict[str, Any]:
    """An old client comes again and again with a token that counts no more."""
    place = _inside()
    code = int(Close.NOT_SIGNED_IN)

    def written() -> int:
        return sum(SocketClose.objects.filter(code=code).values_list("count", flat=True))

    before = written()
    for _ in range(2 * REFUSALS):
        with (
            contextlib.suppress(ConnectionClosed, WebSocketException, OSError, TimeoutError),
            connect(f"ws://{place.netloc}{PATH}?token=expired", open_timeout=5, proxy=None) as opened,
        ):
            opened.recv(timeout=5)
            opened.recv(timeout=5)
    if not until(lambda: written() >= before + REFUSALS, _WRITTEN_SECONDS):
        raise FaultRefused("The web server wrote down no refused sockets.")
    return {"code": code, "before": before}


def _forget_tokens(memory: dict[str, Any]) -> None:
    SocketClose.objects.filter(code=memory["code"]).delete()


def _no_upgrade() -> dict[str, Any]:
    """A proxy stands where people come, and passes no upgrade on."""
    place = _inside()
    port = closed_port()
    pid = start_program(_PLAIN, place.hostname or "127.0.0.1", str(place.port or 80), str(port))
    row = live_row(PUBLIC_PROBE)
    live_set(key=PUBLIC_PROBE, value=f"http://127.0.0.1:{port}", actor=ACTOR)
    return {"pid": pid, "before": row.value if row is not None else None}


def _upgrade_again(memory: dict[str, Any]) -> None:
    end_program(int(memory["pid"]))
    if memory["before"]:
        live_set(key=PUBLIC_PROBE, value=memory["before"], actor=ACTOR)
    else:
        live_clear(key=PUBLIC_PROBE, actor=ACTOR)


def _cut_after_a_minute() -> dict[str, Any]:
    """What six hours with a proxy leave behind that ends quiet connections after a minute."""
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    made = [
        SocketClose.objects.update_or_create(hour=hour, code=1006, seconds=seconds, defaults={"count": count})[0].pk
        for seconds, count in ((60, 3 * DROPS), (61, DROPS), (59, DROPS // 2), (17, 2), (240, 1))
    ]
    return {"rows": made}


def _forget_cuts(memory: dict[str, Any]) -> None:
    SocketClose.objects.filter(pk__in=memory["rows"]).delete()


register_fault(
    "ws.token_missing",
    title="An old client comes again and again with an expired token",
    cause=_wrong_tokens,
    heal=_forget_tokens,
    evidence=("closes", "refused", "reason"),
)
register_fault(
    "ws.proxy_upgrade",
    title="A proxy in front of Switchboard does not upgrade sockets",
    cause=_no_upgrade,
    heal=_upgrade_again,
    evidence=("inside", "outside", "proxy"),
)
register_fault(
    "ws.flapping",
    title="A proxy ends quiet sockets after a minute",
    cause=_cut_after_a_minute,
    heal=_forget_cuts,
    evidence=("peak_seconds", "share", "lifetimes", "heartbeat_seconds"),
)
