"""What a device and other devices tell each other: keys that come in, whose devices there are, and sessions with them."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from nio.events import ToDeviceEvent
from nio.responses import KeysClaimResponse, ToDeviceResponse

from agents.matrix.crypto.device import Device
from agents.matrix.crypto.errors import KeysUnusable
from agents.matrix.crypto.machine import MEGOLM, SIGNED_KEY, Machine
from agents.matrix.errors import MatrixError, Refused, TokenRefused
from ops.logs import get_logger

log = get_logger(__name__)

# How old (s) what we know of changed devices may be when an account that no loop syncs encrypts.
FRESH = 10.0
# The homeserver is asked for so many people's devices, and devices for keys, in one request.
SLICE = 200
# An event is waited for so long (s) before its key is given up.
PATIENCE = 30 * 86400.0
_ONLY_DEVICES = {
    "room": {"rooms": []},
    "presence": {"types": [], "not_types": ["*"]},
    "account_data": {"types": [], "not_types": ["*"]},
}


class Exchange(Device):
    """The device among others. ``synced``: a loop feeds it, so it never syncs by itself."""

    # What comes in.

    def feed(self, sync: dict[str, Any]) -> None:
        """Take in what a sync brought for the device: keys, changes of people's devices, how many of our keys are left.

        When it returns, all of it is written down: the sync need not come again. What has to be sent in turn is sent; a homeserver
        that does not take it leaves it for the next time. Raises ``KeysUnusable``.
        """
        lists = sync.get("device_lists")
        lists = lists if isinstance(lists, dict) else {}
        changed = {one for key in ("changed", "left") for one in lists.get(key) or () if isinstance(one, str)}
        with self._open() as machine:
            with self._writing(machine):
                for event in _events(sync.get("to_device")):
                    self._take(machine, event)
                machine.mark_changed(changed)
                # A key that was used just now is gone from the account: written down, or it would be offered again.
                machine.save_account()
                machine.vault.forget_waiting_before(time.time() - PATIENCE)
            if not machine.account.shared:
                return
            counts = sync.get("device_one_time_keys_count")
            if isinstance(counts, dict):
                # A homeserver leaves out what is zero.
                machine.uploaded_key_count = int(counts.get(SIGNED_KEY) or 0)
            unused = sync.get("device_unused_fallback_key_types")
            wants = isinstance(unused, list) and SIGNED_KEY not in unused
            try:
                if self.user_id in changed or not machine.uploaded_key_count:
                    self._confirmed_until = float("-inf")
                    self._confirm(machine)
                self._publish(machine, fallback=wants)
                self._settle(machine)
            except MatrixError as error:
                log.info("crypto.later", user_id=self.user_id, error=error.sentence[:200])

    def _take(self, machine: Machine, event: dict[str, Any]) -> None:
        content = event.get("content")
        if event.get("type") == "m.room_key.withheld" and isinstance(content, dict):
            room_id, session_id = content.get("room_id"), content.get("session_id")
            code = content.get("code")
            if isinstance(code, str) and isinstance(room_id, str):
                machine.vault.note_withheld(room_id, session_id if isinstance(session_id, str) else "", code[:50])
            return
        if event.get("type") != "m.room.encrypted":
            # Requests for keys and for verification: nobody here could look at them.
            return
        try:
            parsed = ToDeviceEvent.parse_event(event)
            if isinstance(parsed, ToDeviceEvent):
                machine.handle_to_device_event(parsed)
        except Exception as error:
            # Whatever a stranger's device sends must not stop what others send.
            log.warning("crypto.odd_message", user_id=self.user_id, error=type(error).__name__)

    def _settle(self, machine: Machine) -> None:
        """Answer what was taken in: mend broken sessions, tell what has to be told."""
        if machine.wedged_devices:
            wanted: dict[str, list[str]] = {}
            for device in machine.wedged_devices:
                wanted.setdefault(device.user_id, []).append(device.device_id)
            self._claim(machine, wanted)
            machine.wedged_devices.clear()
        for message in list(machine.outgoing_to_device_messages):
            self._send(machine, message)

    def _send(self, machine: Machine, message: Any) -> None:
        self.client.to_device(
            self.user_id, message.type, {message.recipient: {message.recipient_device: message.content}}
        )
        with self._writing(machine):
            machine.handle_response(ToDeviceResponse(message))

    @contextmanager
    def _as_ours(self) -> Iterator[None]:
        """A refusal here is no word about the message: nothing of it was sent yet."""
        try:
            yield
        except TokenRefused:
            raise
        except Refused as error:
            raise KeysUnusable(
                f"{self.user_id} cannot exchange keys with people's devices. {error.sentence} A session that an administrator opened has "
                "no device: give the account a password, or a token of its own."
            ) from error

    # People's devices.

    def _refresh(self, machine: Machine) -> None:
        """Ask for what happened to our device and to people's, when no loop does."""
        if self.synced or time.monotonic() - self._refreshed < FRESH:
            return
        since = machine.vault.meta("since") or None
        answer = self.client.sync(self.user_id, since, 0, _ONLY_DEVICES)
        self.feed(answer)
        if since is None:
            # What changed before the first sync is not told: all that is known is asked for again.
            machine.mark_changed(set(machine.tracked_users))
        with self._writing(machine):
            machine.vault.set_meta("since", str(answer.get("next_batch") or ""))
        self._refreshed = time.monotonic()

    def _know(self, machine: Machine, users: Collection[str]) -> None:
        """Have the present devices of all these people."""
        wanted = [one for one in users if one not in machine.tracked_users or one in machine.users_for_key_query]
        for start in range(0, len(wanted), SLICE):
            part = wanted[start : start + SLICE]
            answer = self.client.keys_query(self.user_id, part)
            devices = answer.get("device_keys")
            found = {user: devices.get(user) or {} for user in part} if isinstance(devices, dict) else {}
            failed = set(answer.get("failures") or ())
            # A server that does not answer now is asked again the next time; what is known of its people serves until then.
            found = {user: known for user, known in found.items() if user.partition(":")[2] not in failed}
            with self._writing(machine):
                machine.take_devices(_well_formed(found))

    def _claim(self, machine: Machine, wanted: dict[str, list[str]]) -> None:
        """Begin sessions with devices that we have none with."""
        pairs = [(user, device) for user, devices in wanted.items() for device in devices]
        for start in range(0, len(pairs), SLICE):
            part: dict[str, list[str]] = {}
            for user, device in pairs[start : start + SLICE]:
                part.setdefault(user, []).append(device)
            answer = self.client.keys_claim(self.user_id, part, SIGNED_KEY)
            keys = answer.get("one_time_keys")
            if isinstance(keys, dict):
                with self._writing(machine):
                    machine.handle_response(KeysClaimResponse(_claimed(keys), {}))


def _events(value: Any) -> list[dict[str, Any]]:
    events = value.get("events") if isinstance(value, dict) else None
    return [one for one in events if isinstance(one, dict)] if isinstance(events, list) else []


def _well_formed(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The devices that can be read at all; one odd device must not hide the others."""
    return {
        user: {
            device_id: device
            for device_id, device in (devices.items() if isinstance(devices, dict) else ())
            if isinstance(device, dict)
            and isinstance(device.get("keys"), dict)
            and isinstance(device.get("signatures"), dict)
            and {"user_id", "device_id"} <= device.keys()
            and MEGOLM in (device.get("algorithms") or ())
        }
        for user, devices in found.items()
    }


def _claimed(keys: dict[str, Any]) -> dict[str, Any]:
    return {
        user: {device: key for device, key in devices.items() if isinstance(key, dict) and key}
        for user, devices in keys.items()
        if isinstance(devices, dict)
    }
