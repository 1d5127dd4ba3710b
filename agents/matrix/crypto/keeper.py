"""An account's device at work: it publishes its keys, takes in what other devices send it, encrypts, and reads.

Whoever calls needs to know nothing of processes: each operation takes the file's lock, sees whether another process used the keys
meanwhile, and writes what it did in one transaction, before anything of it leaves the machine. Errors are ``MatrixError`` of
the homeserver, :class:`KeysUnusable` of ours.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from nio.crypto import OlmDevice, OutboundGroupSession

from agents.matrix.crypto.exchange import Exchange
from agents.matrix.crypto.machine import Machine, Opened
from agents.matrix.errors import MatrixError
from ops.logs import get_logger

log = get_logger(__name__)

# So many devices are told a key in one request.
LETTERS = 50


class Keeper(Exchange):
    """The keys of one account on one homeserver. Thread-safe."""

    # Writing.

    def encrypt(
        self, room_id: str, event_type: str, content: dict[str, Any], members: Collection[str]
    ) -> tuple[str, dict[str, Any]]:
        """The event to send in place of this one. ``members``: everybody who may read it (joined and invited), ids.

        A session serves until somebody's devices change (who left must not read on), for a week or a hundred messages. Raises
        ``KeysUnusable``, or ``MatrixError`` when devices cannot be asked or told: then nothing may be sent.
        """
        self.ready()
        with self._open() as machine, self._as_ours():
            self._refresh(machine)
            self._know(machine, members)
            devices = machine.devices(members)
            present = {(device.user_id, device.id) for device in devices}
            session = machine.outbound_group_sessions.get(room_id) or machine.vault.load_outbound(room_id)
            if session is None or session.expired or session.users_shared_with | session.users_ignored != present:
                session = self._begin_session(machine, room_id, devices)
            machine.outbound_group_sessions[room_id] = session
            with self._writing(machine):
                sealed = machine.seal(room_id, event_type, content)
                # Before it leaves: a ratchet must never be turned twice from the same place.
                machine.vault.save_outbound(room_id, session)
            return "m.room.encrypted", sealed

    def _begin_session(self, machine: Machine, room_id: str, devices: list[OlmDevice]) -> OutboundGroupSession:
        missing = machine.missing_sessions(devices)
        if missing:
            self._claim(machine, missing)
        machine.outbound_group_sessions.pop(room_id, None)
        with self._writing(machine):
            machine.create_outbound_group_session(room_id)
            session = machine.outbound_group_sessions[room_id]
            letters = list(machine.letters(room_id, devices).items())
        for start in range(0, len(letters), LETTERS):
            messages: dict[str, dict[str, Any]] = {}
            for (user, device), content in letters[start : start + LETTERS]:
                messages.setdefault(user, {})[device] = content
            self.client.to_device(self.user_id, "m.room.encrypted", messages)
        session.users_shared_with = {place for place, _ in letters}
        # Devices that have no key to offer: they get the next session. Without this each message would begin another one.
        session.users_ignored = {(one.user_id, one.id) for one in devices} - session.users_shared_with
        if session.users_ignored:
            log.info("crypto.devices_left_out", room=room_id, devices=len(session.users_ignored))
        session.mark_as_shared()
        return session

    # Reading.

    def decrypt(self, event: dict[str, Any], room_id: str) -> Opened:
        """Read an event of a room. One whose key is missing waits for it, and the sender's devices are asked for it once.

        Raises ``KeysUnusable``.
        """
        with self._open() as machine:
            opened = machine.open(event, room_id)
            if opened.code != "no_key":
                return opened
            session_id = event["content"]["session_id"]
            code = machine.vault.withheld(room_id, session_id)
            with self._writing(machine):
                machine.vault.wait_for(str(event.get("event_id") or ""), room_id, session_id, event["sender"])
            if event["sender"] != self.user_id and session_id not in machine.outgoing_key_requests:
                self._ask(machine, event, room_id)
            return Opened(code="withheld", sentence=_WITHHELD.get(code, _WITHHELD[""])) if code else opened

    def _ask(self, machine: Machine, event: dict[str, Any], room_id: str) -> None:
        message = machine.key_request(event, room_id)
        try:
            self._send(machine, _queued(machine, message))
        except MatrixError as error:
            log.info("crypto.not_asked", event_id=event.get("event_id"), error=error.sentence[:200])
            return
        with self._writing(machine):
            machine.vault.note_asked(message.request_id, event["sender"])

    def readable(self) -> list[tuple[str, str]]:
        """``(event id, room id)`` of events that waited for a key which is here now, in the order in which they came."""
        if not self.path.exists():
            return []
        with self._open() as machine:
            return [(row[0], row[1]) for row in machine.vault.waiting(readable=True)]

    def taken_in(self, event_ids: Collection[str]) -> None:
        """These events need not wait any more."""
        if event_ids:
            with self._open() as machine, self._writing(machine):
                machine.vault.forget_waiting(event_ids)

    def untold(self, before: float) -> list[tuple[str, str, str]]:
        """``(room id, sender, session id)`` of keys that were missing before that time without the room being told."""
        if not self.path.exists():
            return []
        with self._open() as machine:
            return machine.vault.untold(before)

    def note_told(self, told: Collection[tuple[str, str, str]]) -> None:
        """The rooms were told."""
        with self._open() as machine, self._writing(machine):
            machine.vault.note_told(told)

    def withheld(self, room_id: str, session_id: str) -> str:
        """The code with which the sender's app withheld a key, "" when it did not."""
        with self._open() as machine:
            return machine.vault.withheld(room_id, session_id)

    # Looking.

    def state(self) -> dict[str, Any]:
        """For the doctor, without asking anybody: ``{published, signed, device_id, fingerprint, waiting, waiting_since}``.

        Raises ``KeysUnusable``.
        """
        with self._open() as machine:
            waiting = machine.vault.waiting(limit=1)
            return {
                "published": bool(machine.account.shared),
                "signed": machine.vault.meta("signed"),
                "device_id": self.device_id,
                "fingerprint": machine.account.identity_keys["ed25519"],
                "waiting": machine.vault.count_waiting(),
                "waiting_since": waiting[0][4] if waiting else None,
            }


_WITHHELD = {
    "m.unverified": "The sender's app gives no keys to devices that are not verified.",
    "m.blacklisted": "The sender has blocked our device.",
    "m.unauthorised": "The sender's app says that we may not read it.",
    "m.unavailable": "The sender's app does not have the key any more.",
    "m.no_olm": "The sender's app could not reach our device.",
    "": "The sender's app withholds the key.",
}


def _queued(machine: Machine, message: Any) -> Any:
    """Queue a message as nio does, so that it is known as sent afterwards."""
    machine.outgoing_to_device_messages.append(message)
    return message
