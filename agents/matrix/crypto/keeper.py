"""An account's device at work: it publishes its keys, takes in what other devices send it, encrypts, and reads.

Whoever calls needs to know nothing of processes: each operation takes the file's lock, sees whether another process used the keys
meanwhile, and writes what it did in one transaction, before anything of it leaves the machine. Errors are ``MatrixError`` of
the homeserver, :class:`KeysUnusable` of ours.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from nio.crypto import OlmDevice, OutboundGroupSession
from nio.events import ToDeviceEvent
from nio.responses import KeysClaimResponse, KeysUploadResponse, ToDeviceResponse

from agents.matrix.crypto import cross_signing, folder
from agents.matrix.crypto.errors import KeysBusy, KeysUnusable
from agents.matrix.crypto.machine import MEGOLM, SIGNED_KEY, Machine, Opened
from agents.matrix.crypto.vault import Vault
from agents.matrix.errors import MatrixError, Refused, TokenRefused
from ops.logs import get_logger
from ops.secrets import SecretUnreadable

log = get_logger(__name__)

# How old (s) what we know of changed devices may be when an account that no loop syncs encrypts.
FRESH = 10.0
# Whether the homeserver still has our keys is asked again after so long (s), or when it says that something about them changed.
CONFIRMED = 6 * 3600.0
# The homeserver is asked for so many people's devices, and devices for keys, in one request.
SLICE = 200
# So many devices are told a key in one request.
LETTERS = 50
# An event is waited for so long (s) before its key is given up.
PATIENCE = 30 * 86400.0
_ONLY_DEVICES = {
    "room": {"rooms": []},
    "presence": {"types": [], "not_types": ["*"]},
    "account_data": {"types": [], "not_types": ["*"]},
}


class Keeper:
    """The keys of one account on one homeserver. Thread-safe. ``synced``: a loop feeds it, so it never syncs by itself."""

    def __init__(self, client: Any, user_id: str, device_id: str, *, synced: bool = False) -> None:
        self.client = client
        self.user_id = user_id
        self.device_id = device_id
        self.synced = synced
        # The account's password where it is known: some homeservers ask for it before they let a device be signed.
        self.password_of: Callable[[], str] | None = None
        self.path = folder.path_of(user_id)
        self._lock = threading.RLock()
        self._depth = 0
        self._vault: Vault | None = None
        self._machine: Machine | None = None
        self._refreshed = float("-inf")
        self._confirmed_until = float("-inf")

    # The frame of every operation.

    @contextmanager
    def _open(self) -> Iterator[Machine]:
        """The machine, ours alone. Raises ``KeysUnusable``."""
        with self._lock:
            if self._depth:
                assert self._machine is not None
                yield self._machine
                return
            try:
                with folder.held(self.path):
                    self._depth += 1
                    try:
                        yield self._load()
                    finally:
                        self._depth -= 1
            except folder.Busy as error:
                raise KeysBusy(
                    f"The keys of {self.user_id} are in use by another process. It is tried again."
                ) from error

    def _load(self) -> Machine:
        if self._vault is not None and self._vault.replaced:
            self.close()
        try:
            if self._vault is None:
                self._vault, self._machine = Vault(self.path), None
            if self._vault.changed:
                self._machine = None
            if self._machine is None:
                if self._vault.is_former(self.device_id):
                    self._learn_device(self._vault)
                with _transaction(self._vault):
                    if self._vault.belong_to(self.device_id):
                        log.warning("crypto.new_device", user_id=self.user_id, device_id=self.device_id)
                    self._machine = Machine(self.user_id, self.device_id, self._vault)
        except SecretUnreadable as error:
            self.close()
            raise KeysUnusable(
                f"The keys of {self.user_id} ({self.path}) were sealed with a key that is missing from FIELD_ENCRYPTION_KEYS. "
                "Put that key back behind the newest one."
            ) from error
        except Exception as error:
            self.close()
            if isinstance(error, MatrixError):
                raise
            log.exception("crypto.unreadable", user_id=self.user_id)
            raise KeysUnusable(
                f"The keys of {self.user_id} ({self.path}) cannot be read ({type(error).__name__}). "
                "Put the file back from a backup, or remove it and give the account a new device."
            ) from error
        return self._machine

    def _learn_device(self, vault: Vault) -> None:
        """Another process has given the account a new device. Raises ``KeysBusy`` when that is not to be found out."""
        sessions = self.client.sessions
        if sessions is not None:
            sessions.forget(self.user_id)
            found = sessions.device_of(self.user_id)
            if found and not vault.is_former(found):
                self.device_id = found
                return
        raise KeysBusy(
            f"{self.user_id} has a newer device ({vault.meta('device_id')}) than this process knows. It is tried again."
        )

    @contextmanager
    def _writing(self, machine: Machine) -> Iterator[None]:
        """One transaction. What fails inside it is forgotten in memory as well."""
        try:
            with _transaction(machine.vault):
                yield
                machine.save_tracked()
        except BaseException:
            self._machine = None
            raise

    def close(self) -> None:
        """Let go of the file; it is opened again when needed."""
        with self._lock:
            if self._vault is not None:
                self._vault.close()
            self._vault = self._machine = None

    # Publishing.

    def ready(self) -> None:
        """Make sure that the homeserver has our device's keys, and that they are ours; asked now and then.

        Raises ``KeysUnusable`` when it has other keys for this device: then ours were lost, or another machine has them.
        """
        with self._open() as machine:
            if machine.account.shared and time.monotonic() < self._confirmed_until:
                return
            self._confirm(machine)

    def _confirm(self, machine: Machine) -> None:
        found = self.client.keys_query(self.user_id, [self.user_id])
        device = (found.get("device_keys") or {}).get(self.user_id, {}).get(self.device_id)
        ours = machine.account.identity_keys["curve25519"]
        if device is not None and device.get("keys", {}).get(f"curve25519:{self.device_id}") != ours:
            raise KeysUnusable(
                f"The keys of {self.user_id} are lost: the homeserver knows its device {self.device_id} with other keys than those in "
                f"{self.path}. If another machine runs Switchboard with this account, share DATA_DIR with it. Otherwise put the file "
                "back from a backup, or give the account a new device."
            )
        # Without a device: published for the first time, or the homeserver lost them (somebody removed the device, say). With it and
        # unnoted: published, and killed before that was written down.
        if machine.account.shared is not (device is not None):
            with self._writing(machine):
                machine.account.shared = device is not None
                machine.save_account()
        if device is None:
            try:
                self._publish(machine, fallback=True)
            except TokenRefused:
                raise
            except Refused as error:
                raise KeysUnusable(
                    f"The keys of {self.user_id} cannot be published. {error.sentence} A session that an administrator opened has no "
                    "device: give the account a password, or a token of its own."
                ) from error
            log.info("crypto.published", user_id=self.user_id, device_id=self.device_id)
            self._sign(machine)
        self._confirmed_until = time.monotonic() + CONFIRMED

    def _publish(self, machine: Machine, *, fallback: bool) -> None:
        if not (machine.should_upload_keys or fallback):
            return
        if machine.account.shared and machine.uploaded_key_count is None:
            return
        with self._writing(machine):
            # Kept before they are told: a key that somebody uses and we do not have is a message lost.
            content = machine.published(fallback=fallback)
            machine.save_account()
        counts = self.client.keys_upload(self.user_id, content)
        with self._writing(machine):
            machine.handle_response(KeysUploadResponse(counts.get("curve25519", 0), counts.get(SIGNED_KEY, 0)))

    def _sign(self, machine: Machine, *, reset: bool = False) -> None:
        """Let the account sign its own device; without that, apps that leave out unsigned devices give it no keys. Never raises."""
        try:
            with self._writing(machine):
                cross_signing.prepare(machine)
            password = self.password_of() if self.password_of is not None else ""
            word = cross_signing.publish(self.client, machine, password, reset=reset)
        except MatrixError as error:
            word = f"refused: {error.sentence}"
            log.warning("crypto.not_signed", user_id=self.user_id, error=error.sentence[:300])
        with self._writing(machine):
            machine.vault.set_meta("signed", word[:500])

    def sign_again(self, *, reset: bool = False) -> str:
        """Try cross-signing once more; "signed", or why not. ``reset``: in place of the account's other keys, which are not at hand."""
        self.ready()
        with self._open() as machine:
            self._sign(machine, reset=reset)
            return machine.vault.meta("signed")

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
            self._send(machine, _Outgoing(machine, message))
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


def _Outgoing(machine: Machine, message: Any) -> Any:
    """Queue a message as nio does, so that it is known as sent afterwards."""
    machine.outgoing_to_device_messages.append(message)
    return message


@contextmanager
def _transaction(vault: Vault) -> Iterator[None]:
    vault.begin()
    try:
        yield
    except BaseException:
        vault.rollback()
        raise
    vault.commit()


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
