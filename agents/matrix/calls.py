"""What all groups of calls share: who speaks, how a query is built, how an answer is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import quote

from agents.matrix.errors import RateLimited, TokenRefused
from agents.matrix.patience import waited
from agents.matrix.sessions import BeforeSend, Sessions
from agents.matrix.transport import Transport, quote_part

V1 = "/_matrix/client/v1"
V3 = "/_matrix/client/v3"


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who makes a request: an account, with its device where repeats must be recognised, at a time (ms) that it may choose."""

    user_id: str
    device: bool = False
    ts: int | None = None


class Calls(Transport):
    """A homeserver as one appservice sees it, or as the accounts that have sessions of their own.

    ``as_token`` is sent in the ``Authorization`` header only. ``user_id=None`` in any call means the appservice's own account
    (``sender_localpart``). ``device_id`` is the device all our accounts share the name of. ``sessions`` knows the accounts that
    speak with a token of their own; their requests carry it in place of the appservice's and assert nothing.
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
        sessions: Sessions | None = None,
    ) -> None:
        super().__init__(base_url, as_token, pool_size=pool_size, timeout=timeout)
        self.server_name = server_name
        self.sender = f"@{sender_localpart}:{server_name}"
        self.device_id = device_id
        self.sessions = sessions
        # Asked by ``send`` before an event goes out.
        self.before_send: BeforeSend | None = None

    @property
    def client_mode(self) -> bool:
        """Whether there is no appservice: every account needs a session of its own."""
        return self.sessions is not None and self.sessions.client_mode

    def _as(self, user_id: str | None, *, device: bool = False, ts: int | None = None) -> Speaker:
        return Speaker(user_id or self.sender, device, ts)

    def call(
        self,
        method: str,
        path: str,
        body: str | bytes | None = None,
        *,
        query: str = "",
        action: str = "",
        content_type: str = "",
        timeout: float | None = None,
        speaker: Speaker | None = None,
    ) -> dict[str, Any]:
        """As :meth:`Transport.call`, made by ``speaker`` (``None``: by nobody in particular)."""
        data = self.call_any(
            method, path, body, query=query, action=action, content_type=content_type, timeout=timeout, speaker=speaker
        )
        if not isinstance(data, dict):
            raise self.not_matrix(action)
        return data

    def call_any(
        self,
        method: str,
        path: str,
        body: str | bytes | None = None,
        *,
        query: str = "",
        action: str = "",
        content_type: str = "",
        timeout: float | None = None,
        token: str | None = None,
        speaker: Speaker | None = None,
    ) -> Any:
        """As :meth:`Transport.call_any`, made by ``speaker``. A session that the homeserver refuses is renewed once; where somebody has
        time (:mod:`agents.matrix.patience`), the homeserver's limits are waited for."""

        def send(token: str | None, query: str) -> Any:
            return super(Calls, self).call_any(
                method, path, body, query=query, action=action, content_type=content_type, timeout=timeout, token=token
            )

        while True:
            try:
                return send(token, query) if speaker is None else self._spoken(speaker, query, send)
            except RateLimited as error:
                if not waited(error):
                    raise

    def _fetched(self, path: str, target: BinaryIO, *, limit: int, query: str, action: str, speaker: Speaker) -> int:
        """As :meth:`Transport.download`, made by ``speaker``."""

        def fetch(token: str | None, query: str) -> int:
            return self.download(path, target, limit=limit, query=query, action=action, token=token)

        return int(self._spoken(speaker, query, fetch))

    def _spoken(self, speaker: Speaker, query: str, request: Callable[[str | None, str], Any]) -> Any:
        own = self.sessions.token_of(speaker.user_id) if self.sessions is not None else None
        if self.sessions is None or own is None:
            return request(None, "&".join(filter(None, (self._assertion(speaker), query))))
        try:
            return request(own, query)
        except TokenRefused as error:
            fresh = self.sessions.refused(speaker.user_id, own, error)
            if fresh is None:
                raise
        return request(fresh, query)

    def _assertion(self, speaker: Speaker) -> str:
        """The query of identity assertion (application service API, "Identity assertion" and "Timestamp massaging")."""
        query = "user_id=" + quote(speaker.user_id, safe="")
        if speaker.device:
            query += "&device_id=" + quote(self.device_id, safe="")
        if speaker.ts is not None:
            query += f"&ts={int(speaker.ts)}"
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
