"""One client for each homeserver and token in this process, so that connections are shared and kept alive."""

from __future__ import annotations

import atexit
from threading import Lock

from agents.matrix.client import AppserviceClient
from agents.matrix.sessions import Sessions

_lock = Lock()
_clients: dict[tuple[str, str], tuple[str, str, AppserviceClient]] = {}


def get_client(
    base_url: str, as_token: str, server_name: str, sender_localpart: str, sessions: Sessions | None = None
) -> AppserviceClient:
    """The shared client of a homeserver. When the token, the sender or the sessions' keeper changed, the former client is closed and
    replaced.

    A call that is under way on the replaced client fails with a retryable error, and its caller comes back for the new one.
    """
    key = (base_url, server_name)
    with _lock:
        known = _clients.get(key)
        if (
            known
            and known[:2] == (as_token, sender_localpart)
            and not known[2].closed
            and known[2].sessions is sessions
        ):
            return known[2]
        client = AppserviceClient(base_url, as_token, server_name, sender_localpart=sender_localpart, sessions=sessions)
        _clients[key] = (as_token, sender_localpart, client)
    if known:
        known[2].close()
    return client


def forget_client(base_url: str, server_name: str) -> None:
    """Close and drop the client of a homeserver whose address or credentials changed."""
    with _lock:
        known = _clients.pop((base_url, server_name), None)
    if known:
        known[2].close()


def close_all() -> None:
    """Close every client; the next :func:`get_client` makes a new one."""
    with _lock:
        clients = [known[2] for known in _clients.values()]
        _clients.clear()
    for client in clients:
        client.close()


atexit.register(close_all)
