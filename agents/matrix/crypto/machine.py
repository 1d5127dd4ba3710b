"""nio's Olm machine with what we do otherwise: who a room's key belongs to, whose forwarded keys count, keys that never run out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import vodozemac
from nio.crypto import Olm, OlmDevice
from nio.events import ForwardedRoomKeyEvent
from nio.events.room_events import MegolmEvent
from nio.responses import KeysQueryResponse

from agents.matrix.crypto.vault import Vault

MEGOLM = "m.megolm.v1.aes-sha2"
SIGNED_KEY = "signed_curve25519"
# What may stand in an encrypted event. A redaction's right is checked by the homeserver, which cannot look into this one.
_NEVER_INSIDE = frozenset({"m.room.encrypted", "m.room.redaction"})


@dataclass(frozen=True, slots=True)
class Opened:
    """An encrypted event that was read (``event``), or why not: ``code`` for machines, ``sentence`` for people."""

    event: dict[str, Any] | None = None
    code: str = ""
    sentence: str = ""


class Machine(Olm):
    """The account's device. Everything in here works on the vault; nothing asks the homeserver."""

    def __init__(self, user_id: str, device_id: str, vault: Vault) -> None:
        super().__init__(user_id, device_id, vault)
        self.vault = vault
        known, stale = vault.tracked()
        self.tracked_users, self.users_for_key_query = known, stale
        self._saved = (set(known), set(stale))

    def save_tracked(self) -> None:
        """Write down whose devices are known and whose changed, where that is news."""
        known, stale = self._saved
        now_stale = self.users_for_key_query
        now_known = self.tracked_users - now_stale
        if (now_known, now_stale) != (known, stale):
            self.vault.save_tracked(now_known - known, now_stale - stale)
            self._saved = (set(now_known), set(now_stale))

    def mark_changed(self, users: set[str]) -> None:
        """The devices of these people changed. Of people of whom nothing is known there is nothing to ask anew."""
        self.users_for_key_query |= users & (self.tracked_users | self.users_for_key_query)

    def take_devices(self, found: dict[str, dict[str, Any]]) -> None:
        """These are the present devices of these people, ``{user: {device: keys}}``."""
        self.handle_response(KeysQueryResponse(found, {}))
        back: dict[str, dict[str, OlmDevice]] = {}
        for user, devices in found.items():
            for device_id in devices:
                device = self.device_store[user].get(device_id)
                if device is not None and device.deleted:
                    # Nio leaves a device that comes back, with the keys it had, among the deleted ones.
                    device.deleted = False
                    back.setdefault(user, {})[device_id] = device
        self.vault.save_device_keys(back)

    # Publishing.

    def published(self, *, fallback: bool) -> dict[str, Any]:
        """What to upload: the device's keys at first, then one-time keys, and with ``fallback`` one that stands in when they ran out."""
        full = self.account.shared and (self.uploaded_key_count or 0) >= self.account.max_one_time_keys
        content: dict[str, Any] = {} if full else self.share_keys()
        if fallback:
            account = self.account._account
            account.generate_fallback_key()
            content["fallback_keys"] = {
                f"{SIGNED_KEY}:{key_id}": self._signed({"key": key.to_base64(), "fallback": True})
                for key_id, key in account.fallback_key.items()
            }
        return content

    def _signed(self, body: dict[str, Any]) -> dict[str, Any]:
        signature = self.sign_json(body)
        return {**body, "signatures": {self.user_id: {f"ed25519:{self.device_id}": signature}}}

    # Keys of rooms that come in.

    def _handle_room_key_event(self, sender: str, sender_key: str, payload: dict[Any, Any]) -> Any:
        self.vault.owner = sender
        return super()._handle_room_key_event(sender, sender_key, payload)

    def _handle_forwarded_room_key_event(self, sender: str, sender_key: str, payload: dict[Any, Any]) -> Any:
        self.vault.owner = sender
        return super()._handle_forwarded_room_key_event(sender, sender_key, payload)

    def create_outbound_group_session(self, room_id: str) -> None:
        self.vault.owner = self.user_id
        super().create_outbound_group_session(room_id)

    def _should_accept_forward(self, sender: str, sender_key: str, event: ForwardedRoomKeyEvent) -> bool:
        """Only from the very device that made the key, and only what we asked that person for.

        Nio takes them from verified devices of the same account; we verify nothing, and what a device says of its own key needs no
        trust in anybody else.
        """
        request = self.outgoing_key_requests.get(event.session_id)
        return (
            request is not None
            and event.algorithm == MEGOLM == request.algorithm
            and event.room_id == request.room_id
            and event.source["content"].get("sender_key") == sender_key
            and self.vault.asked_whom(event.session_id) == sender
        )

    # Keys of rooms that go out. Nio takes every device that is called as ours for ours; all our accounts' devices have one name.

    def devices(self, users: Iterable[str]) -> list[OlmDevice]:
        """The present devices of people, without this one."""
        found = [device for user in users for device in self.device_store.active_user_devices(user)]
        return [one for one in found if (one.user_id, one.id) != (self.user_id, self.device_id)]

    def missing_sessions(self, devices: Iterable[OlmDevice]) -> dict[str, list[str]]:
        """Those with whom nothing was begun yet: ``{user: [device, …]}``."""
        missing: dict[str, list[str]] = {}
        for device in devices:
            if self.session_store.get(device.curve25519) is None:
                missing.setdefault(device.user_id, []).append(device.id)
        return missing

    def letters(self, room_id: str, devices: Iterable[OlmDevice]) -> dict[tuple[str, str], dict[str, Any]]:
        """The room's present key for each of these devices that can be told: ``{(user, device): content of the message}``."""
        group = self.outbound_group_sessions[room_id]
        key = {"algorithm": MEGOLM, "room_id": room_id, "session_id": group.id, "session_key": group.session_key}
        made = {}
        for device in devices:
            session = self.session_store.get(device.curve25519)
            if session is not None:
                made[device.user_id, device.id] = self._olm_encrypt(session, device, "m.room_key", key)
        return made

    def seal(self, room_id: str, event_type: str, content: dict[str, Any]) -> dict[str, Any]:
        """The content of the encrypted event. Nio would write each letter beyond ASCII with six bytes, and events have a largest size."""
        group = self.outbound_group_sessions[room_id]
        plain = {"type": event_type, "content": content, "room_id": room_id}
        text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
        sealed: dict[str, Any] = {
            "algorithm": MEGOLM,
            "sender_key": self.account.identity_keys["curve25519"],
            # A half of a pair that stands alone is no character.
            "ciphertext": group.encrypt(text.encode(errors="replace").decode()),
            "session_id": group.id,
            "device_id": self.device_id,
        }
        if "m.relates_to" in content:
            # What it relates to stands outside, for the homeserver.
            sealed["m.relates_to"] = content["m.relates_to"]
        return sealed

    # Reading.

    def open(self, event: dict[str, Any], room_id: str) -> Opened:
        """Read an encrypted event of a room. What is not what it pretends to be is not read."""
        content = event.get("content")
        content = content if isinstance(content, dict) else {}
        if content.get("algorithm") != MEGOLM:
            return Opened(code="unsupported", sentence="It is encrypted in a way that we do not know.")
        session_id, ciphertext, sender = (content.get("session_id"), content.get("ciphertext"), event.get("sender"))
        if not (isinstance(session_id, str) and isinstance(ciphertext, str) and isinstance(sender, str)):
            return Opened(code="broken", sentence="The encrypted event is not complete.")
        sender_key = content.get("sender_key") or self.vault.sender_key_of(room_id, session_id)
        session = self.inbound_group_store.get(room_id, str(sender_key), session_id)
        if session is None:
            return Opened(code="no_key", sentence="The key to it has not come.")
        if session.owner and session.owner != sender:
            return Opened(code="forged", sentence="Its key belongs to somebody else than its sender.")
        device = self.device_store.device_from_sender_key(sender, session.sender_key)
        if device is not None and device.ed25519 != session.ed25519:
            return Opened(code="forged", sentence="Its key is signed by another device than the one it names.")
        try:
            plain, index = session.decrypt(ciphertext)
            inner = json.loads(plain)
        except (vodozemac.MegolmDecryptionException, vodozemac.DecodeException, ValueError) as error:
            if "unknown" in str(error).lower() or "first known" in str(error).lower():
                return Opened(code="no_key", sentence="The key that came fits later messages only.")
            return Opened(code="broken", sentence="It cannot be decrypted with its key.")
        if not self.message_index_ok(index, _named(event, session.sender_key, session_id)):
            return Opened(code="replayed", sentence="It is a copy of another message.")
        return _inner(event, inner, content, room_id)

    def key_request(self, event: dict[str, Any], room_id: str) -> Any:
        """The message that asks the sender's devices for an event's key."""
        content = event["content"]
        named = _named(event, str(content.get("sender_key") or ""), content["session_id"])
        named.room_id = room_id
        return named.as_key_request(event["sender"], self.device_id, content["session_id"], "*")


def _named(event: dict[str, Any], sender_key: str, session_id: str) -> MegolmEvent:
    """The event as nio knows it, as far as it needs to be known."""
    source = {"event_id": "", "sender": "", "origin_server_ts": 0, **event}
    made = MegolmEvent(source, str(event["content"].get("device_id") or ""), "", MEGOLM)
    made.sender_key, made.session_id = sender_key, session_id
    return made


def _inner(event: dict[str, Any], inner: Any, content: dict[str, Any], room_id: str) -> Opened:
    """The event with what was inside in the place of what was outside."""
    inside = inner.get("content") if isinstance(inner, dict) else None
    if not isinstance(inside, dict) or inner.get("room_id") != room_id or not isinstance(inner.get("type"), str):
        return Opened(code="forged", sentence="What is inside was written for another room, or is no event.")
    if inner["type"] in _NEVER_INSIDE or "state_key" in inner:
        return Opened(code="forged", sentence="What is inside must not be encrypted.")
    # What an event relates to stands outside, for the homeserver.
    relation = content.get("m.relates_to")
    if isinstance(relation, dict) and "m.relates_to" not in inside:
        inside = {**inside, "m.relates_to": relation}
    return Opened(event={**event, "type": inner["type"], "content": inside, "room_id": room_id})
