"""What all groups of calls share: who speaks, how a query is built, how an answer is read."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from agents.matrix.transport import Transport, quote_part

V1 = "/_matrix/client/v1"
V3 = "/_matrix/client/v3"


class Calls(Transport):
    """A homeserver as one appservice sees it.

    ``as_token`` is sent in the ``Authorization`` header only. ``user_id=None`` in any call means the appservice's own account
    (``sender_localpart``). ``device_id`` is the device all our accounts share the name of.
    """

    def __init__(
        self,
        base_url: str,
        as_token: str,
        server_name: str,
        *,
        sender_localpart: str,
        device_id: str = "SWITCHBOARD",
        pool_size: int = 32,
        timeout: float = 30.0,
    ) -> None:
        super().__init__(base_url, as_token, pool_size=pool_size, timeout=timeout)
        self.server_name = server_name
        self.sender = f"@{sender_localpart}:{server_name}"
        self.device_id = device_id

    def _as(self, user_id: str | None, *, device: bool = False, ts: int | None = None) -> str:
        """The query of identity assertion (application service API, "Identity assertion" and "Timestamp massaging")."""
        query = "user_id=" + quote(user_id or self.sender, safe="")
        if device:
            query += "&device_id=" + quote(self.device_id, safe="")
        if ts is not None:
            query += f"&ts={int(ts)}"
        return query

    def _text(self, data: dict[str, Any], key: str, action: str) -> str:
        """The string that the answer must hold under ``key``."""
        value = data.get(key)
        if not isinstance(value, str) or not value:
            raise self.not_matrix(action)
        return value


def room_path(room_id: str, *parts: str) -> str:
    """``/_matrix/client/v3/rooms/{room_id}/…`` with every part percent-encoded."""
    return "/".join((V3, "rooms", quote_part(room_id), *map(quote_part, parts)))


def dumps(value: Any) -> str:
    """Compact JSON for a request body."""
    return json.dumps(value, separators=(",", ":"))


def dicts(value: Any) -> list[dict[str, Any]]:
    """The dictionaries in a list that a server sent; anything else is left out."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def strings(value: Any) -> list[str]:
    """The strings in a list that a server sent."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
