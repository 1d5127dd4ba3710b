"""Docker, over its socket (Docker Engine API): containers of ours as in ``deploy/compose.yaml``, and those that an operator named.

A socket is as good as root on the host. Without one this adapter still knows the commands, and a process that ends because it
was asked to is started again by Docker itself.
"""

from __future__ import annotations

from pathlib import Path

import httpx
from django.conf import settings

from ops.adapters.base import AdapterError, Part, Verb, unit_of

DEFAULTS = {
    "web": "switchboard-web-1",
    "worker": "switchboard-worker-1",
    "beat": "switchboard-beat-1",
    "up": "switchboard-up-1",
}
_SECONDS = 40.0
_GRACE = 20


class Docker:
    """``POST /containers/{name}/restart`` and ``start``."""

    name = "docker"
    supervises = True

    def why_not(self, part: Part) -> str:
        try:
            name = unit_of(part, "container", DEFAULTS)
        except AdapterError as error:
            return str(error)
        if not name:
            return f"No container is known for {part.label}. Name it in PROCESS_UNITS, or as the option 'container' of the service."
        if not _socket().exists():
            return f"Docker's socket {_socket()} is not here. On the host, run: {self.command(part, 'restart')}"
        return ""

    def command(self, part: Part, verb: Verb) -> str:
        return f"docker {verb} {unit_of(part, 'container', DEFAULTS) or 'CONTAINER'}"

    def start(self, part: Part) -> None:
        self._post("start", part, {})

    def restart(self, part: Part) -> None:
        self._post("restart", part, {"t": _GRACE})

    def _post(self, verb: Verb, part: Part, query: dict[str, int]) -> None:
        name = unit_of(part, "container", DEFAULTS)
        transport = httpx.HTTPTransport(uds=str(_socket()))
        try:
            with httpx.Client(transport=transport, base_url="http://docker", timeout=_SECONDS) as client:
                answer = client.post(f"/containers/{name}/{verb}", params=query)
        except httpx.HTTPError as error:
            raise AdapterError(
                f"Docker does not answer at {_socket()} ({type(error).__name__}). By hand: {self.command(part, verb)}"
            ) from error
        # 304: it runs already.
        if answer.status_code not in (204, 304):
            raise AdapterError(
                f"Docker answered {answer.status_code} to {verb} {name}. By hand: {self.command(part, verb)}"
            )


def _socket() -> Path:
    return Path(str(settings.DOCKER_HOST).removeprefix("unix://"))
