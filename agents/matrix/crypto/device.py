"""An account's device: its file with the lock in front of it, one transaction at a time, and its keys as the homeserver knows them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from nio.responses import KeysUploadResponse

from agents.matrix.crypto import cross_signing, folder
from agents.matrix.crypto.errors import KeysBusy, KeysUnusable
from agents.matrix.crypto.machine import SIGNED_KEY, Machine
from agents.matrix.crypto.vault import Vault
from agents.matrix.errors import MatrixError, Refused, TokenRefused
from ops.logs import get_logger
from ops.secrets import SecretUnreadable

log = get_logger(__name__)

# Whether the homeserver still has our keys is asked again after so long (s), or when it says that something about them changed.
CONFIRMED = 6 * 3600.0


class Device:
    """The device of one account on one homeserver: its file, its lock, its published keys. Thread-safe."""

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
                with transaction(self._vault):
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
            with transaction(machine.vault):
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


@contextmanager
def transaction(vault: Vault) -> Iterator[None]:
    """One transaction in the file."""
    vault.begin()
    try:
        yield
    except BaseException:
        vault.rollback()
        raise
    vault.commit()
