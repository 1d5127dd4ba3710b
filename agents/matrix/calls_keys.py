"""Keys of devices: publishing ours, asking for those of others, and messages from device to device."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from agents.matrix.calls import V3, dumps
from agents.matrix.calls_events import EventCalls
from agents.matrix.transport import Transport, quote_part


class KeyCalls(EventCalls):
    """The part of :class:`~agents.matrix.client.AppserviceClient` that end-to-end encryption needs (client-server API, 11.12)."""

    def keys_upload(self, user_id: str, body: Mapping[str, Any]) -> dict[str, int]:
        """Publish keys of the account's device; returns how many one-time keys of each algorithm the homeserver has now."""
        data = self._keys("POST", "upload", user_id, body, "publish an account's keys")
        counts = data.get("one_time_key_counts")
        return (
            {key: value for key, value in counts.items() if isinstance(value, int)} if isinstance(counts, dict) else {}
        )

    def keys_query(self, user_id: str, of: Iterable[str], timeout_ms: int = 10_000) -> dict[str, Any]:
        """The devices of people, with their keys and those of cross-signing: the answer as it came."""
        body = {"device_keys": {one: [] for one in of}, "timeout": timeout_ms}
        return self._keys("POST", "query", user_id, body, "ask for people's devices")

    def keys_claim(
        self, user_id: str, of: Mapping[str, Iterable[str]], algorithm: str, timeout_ms: int = 10_000
    ) -> dict[str, Any]:
        """A one-time key of each device (``{user: [device, …]}``): the answer as it came."""
        wanted = {one: dict.fromkeys(devices, algorithm) for one, devices in of.items()}
        return self._keys(
            "POST", "claim", user_id, {"one_time_keys": wanted, "timeout": timeout_ms}, "ask devices for keys"
        )

    def keys_sign(self, user_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Publish signatures of keys; the answer names those that were refused under ``failures``."""
        return self._keys("POST", "signatures/upload", user_id, body, "sign an account's device")

    def keys_cross_sign(self, user_id: str, body: Mapping[str, Any]) -> None:
        """Publish an account's keys of cross-signing. Raises ``MatrixError``, status 401 when the homeserver wants a password first."""
        token = self.sessions.token_of(user_id) if self.sessions is not None else None
        # Not as other calls: this 401 is a question, and no word against the token, which must not be renewed for it.
        Transport.call_any(
            self,
            "POST",
            f"{V3}/keys/device_signing/upload",
            dumps(body),
            action="publish an account's keys of cross-signing",
            token=token,
        )

    def to_device(self, user_id: str, event_type: str, messages: Mapping[str, Mapping[str, Any]]) -> None:
        """Send from the account's device to others: ``{user: {device: content}}``."""
        path = f"{V3}/sendToDevice/{quote_part(event_type)}/{uuid.uuid4().hex}"
        self.call("PUT", path, dumps({"messages": messages}), speaker=self._as(user_id), action="send keys to devices")

    def _keys(self, method: str, what: str, user_id: str, body: Mapping[str, Any], action: str) -> dict[str, Any]:
        return self.call(method, f"{V3}/keys/{what}", dumps(body), speaker=self._as(user_id), action=action)
