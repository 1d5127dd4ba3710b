"""Opens a socket the way that a browser does, and says what came of it: the upgrade, a frame there and one back, how long it took."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
from django.conf import settings
from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from chat.socket.protocol import PATH, SUBPROTOCOL
from ops.network.places import environment_proxy

_SECONDS = 6.0


@dataclass(frozen=True, slots=True)
class Shaken:
    """``status`` is that of the upgrade (101 when it worked, 0 when nothing answered), ``server`` who says that it answered, ``echo_ms`` how
    long a frame took there and back (None: none came)."""

    address: str
    status: int = 0
    server: str = ""
    echo_ms: int | None = None
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Frames pass both ways, and it is our server that answers."""
        return self.status == 101 and self.echo_ms is not None

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{address, status, server, echo_ms, problem}``."""
        return {
            "address": self.address,
            "status": self.status,
            "server": self.server,
            "echo_ms": self.echo_ms,
            "problem": self.problem,
        }


def shake(base: str) -> Shaken:
    """Open ``/ws`` at an ``http(s)://`` address, send a ping, wait for its pong, and close. That it is our server shows the subprotocol.

    Nobody is signed in for it, so nothing can leak, and nothing is refused. Never raises.
    """
    parts = urlsplit(base)
    secure = parts.scheme == "https"
    public = urlsplit(settings.PUBLIC_URL)
    address = f"{'wss' if secure else 'ws'}://{parts.netloc}{parts.path.rstrip('/')}{PATH}"
    proxy, _ = environment_proxy(base)
    if proxy:
        return Shaken(
            address, problem=f"is reached through the proxy {urlsplit(proxy).hostname} from here; try it from a browser"
        )
    try:
        wire = socket.create_connection((parts.hostname or "", parts.port or (443 if secure else 80)), timeout=_SECONDS)
    except OSError as error:
        return Shaken(address, problem=f"does not connect: {error.strerror or error}")
    # Where our server listens it is asked under the name that people use, as a proxy does.
    name = public.netloc if parts.hostname in ("127.0.0.1", "::1", "localhost") else parts.netloc
    uri = f"{'wss' if secure else 'ws'}://{name}{parts.path.rstrip('/')}{PATH}"
    try:
        with connect(
            uri,
            sock=wire,
            ssl=ssl.create_default_context() if secure else None,
            server_hostname=parts.hostname if secure else None,
            origin=Origin(f"{public.scheme}://{public.netloc}"),
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            open_timeout=_SECONDS,
            close_timeout=1.0,
            max_size=2**20,
            proxy=None,
        ) as opened:
            server = opened.response.headers.get("Server", "") if opened.response else ""
            if opened.subprotocol != SUBPROTOCOL:
                return Shaken(address, 101, server, problem="is upgraded by something else than Switchboard")
            asked = time.monotonic()
            if not opened.ping().wait(_SECONDS):
                return Shaken(address, 101, server, problem="opens, and then no frame passes")
            return Shaken(address, 101, server, round((time.monotonic() - asked) * 1000))
    except InvalidStatus as error:
        found = error.response
        return Shaken(
            address,
            found.status_code,
            found.headers.get("Server", ""),
            problem=f"answers {found.status_code} instead of 101",
        )
    except (InvalidHandshake, InvalidMessage, OSError, TimeoutError, EOFError) as error:
        return Shaken(address, problem=f"the upgrade fails: {type(error).__name__}")
    finally:
        with contextlib.suppress(OSError):
            wire.close()


def server_of(base: str) -> tuple[int, str]:
    """(status, Server header) of a plain request to ``/livez`` there; (0, "") when nothing answers."""
    try:
        answer = httpx.get(f"{base.rstrip('/')}/livez", timeout=_SECONDS, trust_env=False)
    except httpx.HTTPError:
        return 0, ""
    return answer.status_code, " ".join(filter(None, (answer.headers.get("server", ""), answer.headers.get("via", ""))))
