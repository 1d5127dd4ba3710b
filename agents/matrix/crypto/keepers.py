"""The keepers of this process: one for each account that reads or speaks encrypted, its file open while it is in use."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Protocol

from agents.matrix.client import AppserviceClient
from agents.matrix.crypto.errors import KeysUnusable
from agents.matrix.crypto.keeper import Keeper

# Files that stay open at most; opening one again takes a few milliseconds.
MOST = 200

_lock = threading.Lock()
_keepers: OrderedDict[tuple[str, str], Keeper] = OrderedDict()


class _Homeserver(Protocol):
    @property
    def client(self) -> AppserviceClient: ...


def keeper_of(homeserver: _Homeserver, user_id: str) -> Keeper:
    """The account's keeper. Raises ``KeysUnusable`` for an account without a session of its own, ``MatrixError`` when it was refused."""
    client = homeserver.client
    device_id = client.sessions.device_of(user_id) if client.sessions is not None else ""
    if client.sessions is not None and not device_id:
        # What is remembered may be a session that an administrator opened, and another process has given it a device since.
        client.sessions.forget(user_id)
        if client.sessions.token_of(user_id) is not None:
            device_id = client.sessions.device_of(user_id)
    if not device_id:
        raise KeysUnusable(
            f"{user_id} has no session of its own, so it has no device that could hold keys. Encrypted rooms need client mode."
        )
    key = (client.base_url, user_id)
    with _lock:
        keeper = _keepers.get(key)
        if keeper is None or keeper.device_id != device_id:
            if keeper is not None:
                keeper.close()
            keeper = _keepers[key] = Keeper(client, user_id, device_id, synced=user_id == client.sender)
        # Another token, another client.
        keeper.client = client
        _keepers.move_to_end(key)
        idle = [_keepers.popitem(last=False)[1] for _ in range(len(_keepers) - MOST)]
    for one in idle:
        one.close()
    return keeper


def close_all() -> None:
    """Let go of all files."""
    with _lock:
        keepers = list(_keepers.values())
        _keepers.clear()
    for keeper in keepers:
        keeper.close()
