"""The answer to "is it well?" for the process of a role on this machine, within two seconds whatever happens."""

from __future__ import annotations

import socket
import threading

import httpx
from django.conf import settings
from django.db import connections

SECONDS = 1.8


def why_not_well(role: str) -> str:
    """Why the web server, worker, beat or ``up`` of this machine does not do its work; "" when it does.

    A web server is asked at /readyz, which asks database and broker. The others have no port: their reports, which they write
    themselves every ten seconds, must be fresh and say that they are ready.
    """
    answer: list[str] = []

    def look() -> None:
        try:
            answer.append(_web() if role in ("web", "up") else "")
            if not answer[0] and role != "web":
                answer[0] = _reports(role)
        except Exception as error:
            answer[:] = [f"The {role} cannot be asked: {type(error).__name__}."]
        finally:
            connections.close_all()

    # A thread of its own: a database that stands still must not hold the probe up.
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(SECONDS)
    return answer[0] if answer and not thread.is_alive() else f"The {role} did not answer within {SECONDS:g} s."


def _web() -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.HOST, settings.HOST)  # noqa: S104
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    try:
        answer = httpx.get(f"http://{host}:{settings.PORT}/readyz", timeout=SECONDS - 0.2, trust_env=False)
    except httpx.HTTPError as error:
        return f"The web server does not answer at port {settings.PORT} ({type(error).__name__})."
    return "" if answer.status_code == 200 else f"The web server answers {answer.status_code}: it is not ready."


def _reports(role: str) -> str:
    from ops.processes.queries import alive

    rows = [row for row in alive((role,)) if row.host == socket.gethostname()]
    if not rows:
        return f"No {role} of this machine reports itself."
    if not any(row.ready_after_seconds is not None for row in rows):
        return f"The {role} is not ready yet."
    return ""
