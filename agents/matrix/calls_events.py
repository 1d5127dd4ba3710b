"""Events: sending them so that a repeat is recognised, typing, receipts, history, and the sync of one account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from agents.matrix.calls import dicts, room_path
from agents.matrix.calls_rooms import SpaceCalls
from agents.matrix.errors import MatrixError, NotFound, TokenRefused
from agents.matrix.nio_api import Api
from agents.matrix.results import MessagesPage


class EventCalls(SpaceCalls):
    """The part of :class:`~agents.matrix.client.AppserviceClient` that deals with what is said."""

    def send(
        self,
        room_id: str,
        content: Mapping[str, Any],
        *,
        txn_id: str,
        user_id: str | None,
        event_type: str = "m.room.message",
        ts: int | None = None,
    ) -> str:
        """Send an event and return its id.

        The same ``txn_id`` again returns the same event id, also after the homeserver was killed in between, because the call
        names our device; the device is created when the homeserver does not know it. ``ts`` (ms) sets the event's time, which only an
        appservice may.
        """
        shown = dict(content)
        if self.before_send is not None:
            event_type, shown = self.before_send(
                room_id=room_id, user_id=user_id or self.sender, event_type=event_type, content=shown, txn_id=txn_id
            )
        method, path, body = Api.room_send("", room_id, event_type, shown, txn_id)
        return self._send_once(method, path, body, user_id, ts, "send a message")

    def redact(self, room_id: str, event_id: str, *, txn_id: str, user_id: str | None, reason: str = "") -> str:
        """Remove an event's content and return the redaction's id. Recognises repeats as :meth:`send` does."""
        method, path, body = Api.room_redact("", room_id, event_id, txn_id, reason or None)
        return self._send_once(method, path, body, user_id, None, "remove a message")

    def _send_once(self, method: str, path: str, body: str, user_id: str | None, ts: int | None, action: str) -> str:
        speaker = self._as(user_id, device=True, ts=ts)
        try:
            data = self.call(method, path, body, speaker=speaker, action=action)
        except MatrixError as error:
            if not is_unknown_device(error):
                raise
            self.ensure_device(user_id)
            data = self.call(method, path, body, speaker=speaker, action=action)
        return self._text(data, "event_id", action)

    def typing(self, room_id: str, user_id: str | None, typing: bool, timeout_ms: int = 30_000) -> None:
        """Show, or stop showing, that the account is typing."""
        method, path, body = Api.room_typing("", room_id, user_id or self.sender, typing, timeout_ms)
        self.call(method, path, body, speaker=self._as(user_id), action="show that it is typing")

    def read_receipt(self, room_id: str, event_id: str, user_id: str | None) -> None:
        """Show that the account has read up to the event (an unthreaded receipt, valid for every thread)."""
        path = room_path(room_id, "receipt", "m.read", event_id)
        self.call("POST", path, "{}", speaker=self._as(user_id), action="mark a message as read")

    def messages(
        self,
        room_id: str,
        *,
        user_id: str | None,
        from_token: str | None = None,
        direction: Literal["b", "f"] = "b",
        limit: int = 50,
        filter: Mapping[str, Any] | None = None,
    ) -> MessagesPage:
        """One page of history, backwards from the newest (``b``) or forwards (``f``) from ``from_token``."""
        method, path = Api.room_messages(
            "",
            room_id,
            start=from_token,
            direction=direction,
            limit=limit,
            message_filter=dict(filter) if filter else None,
        )
        data = self.call(method, path, speaker=self._as(user_id), action="read the room's history")
        start, end = data.get("start"), data.get("end")
        return MessagesPage(
            dicts(data.get("chunk")), start if isinstance(start, str) else None, end if isinstance(end, str) else None
        )

    def get_event(self, room_id: str, event_id: str, user_id: str | None = None) -> dict[str, Any] | None:
        """One event, or ``None`` when it does not exist or the account may not see it."""
        method, path = Api.room_get_event("", room_id, event_id)
        try:
            return self.call(method, path, speaker=self._as(user_id), action="read a message")
        except NotFound:
            return None

    def sync(
        self,
        user_id: str | None,
        since: str | None = None,
        timeout_ms: int = 0,
        filter: str | Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """``GET /sync`` as one account, without showing it as online. Waits up to ``timeout_ms`` for news."""
        chosen = dict(filter) if isinstance(filter, Mapping) else filter
        method, path = Api.sync("", since, timeout_ms, chosen, set_presence="offline")
        return self.call(
            method, path, speaker=self._as(user_id), action="sync an account", timeout=self.timeout + timeout_ms / 1000
        )


def is_unknown_device(error: MatrixError) -> bool:
    """Whether a homeserver says that ``device_id`` names no device of the account.

    Synapse and the specification (1.17) say ``M_UNKNOWN_DEVICE``; older Synapse said ``M_EXCLUSIVE`` and the words below.
    """
    if error.errcode.endswith("M_UNKNOWN_DEVICE"):
        return True
    words = error.message.lower()
    return (
        400 <= error.status < 500
        and not isinstance(error, TokenRefused)
        and "device" in words
        and ("exist" in words or "unknown" in words or "not found" in words)
    )
