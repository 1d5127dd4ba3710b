"""One account's keys in one SQLite file: what :class:`nio.crypto.Olm` asks of its store, and what it would forget.

Secret keys are pickled by vodozemac under a passphrase that is made for the file and lies in it sealed with
``FIELD_ENCRYPTION_KEYS`` (``meta.passphrase``); so do the keys of cross-signing. Times are seconds since 1970. Everything
between :meth:`Vault.begin` and :meth:`Vault.commit` is written at once or not at all.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from nio.crypto import (
    DeviceStore,
    GroupSessionStore,
    InboundGroupSession,
    OlmAccount,
    OlmDevice,
    OutboundGroupSession,
    OutgoingKeyRequest,
    Session,
    SessionStore,
)

from ops.secrets import seal_text, unseal_text

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS account (id INTEGER PRIMARY KEY CHECK (id = 1), pickle TEXT NOT NULL, shared INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS olm (
  session_id TEXT PRIMARY KEY, sender_key TEXT NOT NULL, pickle TEXT NOT NULL, created REAL NOT NULL, used REAL NOT NULL);
CREATE INDEX IF NOT EXISTS olm_of ON olm (sender_key);
CREATE TABLE IF NOT EXISTS inbound (
  room_id TEXT NOT NULL, sender_key TEXT NOT NULL, session_id TEXT NOT NULL, signing_key TEXT NOT NULL, owner TEXT NOT NULL,
  chain TEXT NOT NULL, pickle TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (room_id, sender_key, session_id));
CREATE INDEX IF NOT EXISTS inbound_session ON inbound (session_id);
CREATE TABLE IF NOT EXISTS outbound (
  room_id TEXT PRIMARY KEY, pickle TEXT NOT NULL, created REAL NOT NULL, messages INTEGER NOT NULL,
  given TEXT NOT NULL, passed_over TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS device (
  user_id TEXT NOT NULL, device_id TEXT NOT NULL, name TEXT NOT NULL, deleted INTEGER NOT NULL,
  ed25519 TEXT NOT NULL, curve25519 TEXT NOT NULL, PRIMARY KEY (user_id, device_id));
CREATE TABLE IF NOT EXISTS tracked (user_id TEXT PRIMARY KEY, stale INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS request (
  request_id TEXT PRIMARY KEY, session_id TEXT NOT NULL, room_id TEXT NOT NULL, algorithm TEXT NOT NULL,
  user_id TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS waiting (
  event_id TEXT PRIMARY KEY, room_id TEXT NOT NULL, session_id TEXT NOT NULL, sender TEXT NOT NULL, at REAL NOT NULL,
  told INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS waiting_for ON waiting (session_id);
CREATE TABLE IF NOT EXISTS withheld (
  room_id TEXT NOT NULL, session_id TEXT NOT NULL, code TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (room_id, session_id));
"""


class Vault:
    """An opened file. Use it while the file's lock is held, in one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.is_new = not path.exists()
        if self.is_new:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        self._inode = path.stat().st_ino
        # Several threads, one at a time; transactions are ours to begin.
        self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA secure_delete = ON")
        self._db.executescript(_TABLES)
        sealed = self.meta("passphrase")
        if sealed:
            # Raises SecretUnreadable when the key that sealed it is gone.
            self._passphrase = unseal_text(sealed)
        else:
            self._passphrase = secrets.token_urlsafe(32)
            self.set_meta("passphrase", seal_text(self._passphrase))
        # Whose key is being taken in; see Machine.
        self.owner = ""
        self._version = self._data_version()

    def close(self) -> None:
        self._db.close()

    @property
    def replaced(self) -> bool:
        """Whether the file was removed, or another one was put in its place."""
        try:
            return self.path.stat().st_ino != self._inode
        except FileNotFoundError:
            return True

    @property
    def changed(self) -> bool:
        """Whether somebody else wrote into the file since this was last asked."""
        version = self._data_version()
        different, self._version = version != self._version, version
        return different

    def _data_version(self) -> int:
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def begin(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        if self._db.in_transaction:
            self._db.execute("COMMIT")

    def rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    # What stands once in a file.

    def meta(self, name: str) -> str:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else ""

    def set_meta(self, name: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def is_former(self, device_id: str) -> bool:
        """Whether another device has followed this one: whoever still names it has old news."""
        return device_id in self.meta("former").split()

    def belong_to(self, device_id: str) -> bool:
        """The file serves this device from now on. True: it served another one, whose own keys are forgotten.

        Keys of rooms stay, since whoever has them can read, and so do those that sign the account's devices.
        """
        known = self.meta("device_id")
        if known == device_id:
            return False
        if known:
            for table in ("account", "olm", "outbound", "request", "tracked"):
                self._db.execute(f"DELETE FROM {table}")  # noqa: S608 (no input in it)
            self._db.execute("DELETE FROM meta WHERE name IN ('since', 'signed', 'put_back')")
            self.set_meta("former", f"{self.meta('former')} {known}".strip())
        self.set_meta("device_id", device_id)
        return bool(known)

    def load_account(self) -> OlmAccount | None:
        row = self._db.execute("SELECT pickle, shared FROM account").fetchone()
        return OlmAccount.from_pickle(row[0].encode(), self._passphrase, bool(row[1])) if row else None

    def save_account(self, account: OlmAccount) -> None:
        pickle = account.pickle(self._passphrase).decode()
        self._db.execute("INSERT OR REPLACE INTO account VALUES (1, ?, ?)", (pickle, int(account.shared)))

    # Sessions between two devices.

    def load_sessions(self) -> SessionStore:
        return _Sessions(self)

    def sessions_with(self, sender_key: str) -> list[Session]:
        """The newest first."""
        rows = self._db.execute(
            "SELECT pickle, created, used FROM olm WHERE sender_key = ? ORDER BY used DESC", (sender_key,)
        )
        return [
            Session.from_pickle(
                pickle.encode(), datetime.fromtimestamp(created), self._passphrase, datetime.fromtimestamp(used)
            )
            for pickle, created, used in rows
        ]

    def save_session(self, curve_key: str, session: Session) -> None:
        pickle = session.pickle(self._passphrase).decode()
        times = (session.creation_time.timestamp(), session.use_time.timestamp())
        self._db.execute("INSERT OR REPLACE INTO olm VALUES (?, ?, ?, ?, ?)", (session.id, curve_key, pickle, *times))

    # Keys of rooms, to read with.

    def load_inbound_group_sessions(self) -> GroupSessionStore:
        return _GroupSessions(self)

    def inbound(self, room_id: str, sender_key: str, session_id: str) -> InboundGroupSession | None:
        row = self._db.execute(
            "SELECT pickle, signing_key, chain, owner FROM inbound WHERE room_id = ? AND sender_key = ? AND session_id = ?",
            (room_id, sender_key, session_id),
        ).fetchone()
        if row is None:
            return None
        session = InboundGroupSession.from_pickle(
            row[0].encode(), row[1], sender_key, room_id, self._passphrase, json.loads(row[2])
        )
        session.owner = row[3]
        return session

    def sender_key_of(self, room_id: str, session_id: str) -> str:
        """The device's key that a session is from; "" when the session is not known."""
        row = self._db.execute(
            "SELECT sender_key FROM inbound WHERE session_id = ? AND room_id = ?", (session_id, room_id)
        ).fetchone()
        return str(row[0]) if row else ""

    def save_inbound_group_session(self, session: InboundGroupSession) -> None:
        """Keep the key, unless the same one is here already from an earlier message on."""
        known = self.inbound(session.room_id, session.sender_key, session.id)
        if known is not None and known.first_known_index <= session.first_known_index:
            return
        self._db.execute(
            "INSERT OR REPLACE INTO inbound VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(session.room_id, session.sender_key, session.id, session.ed25519, self.owner),
                *(json.dumps(session.forwarding_chain), session.pickle(self._passphrase).decode(), time.time()),
            ),
        )

    # Keys of rooms, to write with.

    def load_outbound(self, room_id: str) -> OutboundGroupSession | None:
        row = self._db.execute("SELECT * FROM outbound WHERE room_id = ?", (room_id,)).fetchone()
        if row is None:
            return None
        session = OutboundGroupSession.from_pickle(row[1].encode(), self._passphrase)
        session.creation_time, session.message_count = datetime.fromtimestamp(row[2]), row[3]
        session.users_shared_with, session.users_ignored = _pairs(row[4]), _pairs(row[5])
        session.mark_as_shared()
        return session

    def save_outbound(self, room_id: str, session: OutboundGroupSession) -> None:
        given, passed_over = (json.dumps(sorted(one)) for one in (session.users_shared_with, session.users_ignored))
        self._db.execute(
            "INSERT OR REPLACE INTO outbound VALUES (?, ?, ?, ?, ?, ?)",
            (
                *(room_id, session.pickle(self._passphrase).decode(), session.creation_time.timestamp()),
                *(session.message_count, given, passed_over),
            ),
        )

    # People's devices.

    def load_device_keys(self) -> DeviceStore:
        return _Devices(self)

    def devices_of(self, user_id: str) -> dict[str, OlmDevice]:
        rows = self._db.execute(
            "SELECT device_id, name, deleted, ed25519, curve25519 FROM device WHERE user_id = ?", (user_id,)
        )
        return {
            row[0]: OlmDevice(user_id, row[0], {"ed25519": row[3], "curve25519": row[4]}, row[1], bool(row[2]))
            for row in rows
        }

    def save_device_keys(self, changed: dict[str, dict[str, OlmDevice]]) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO device VALUES (?, ?, ?, ?, ?, ?)",
            [
                (user_id, device_id, device.display_name or "", int(device.deleted), device.ed25519, device.curve25519)
                for user_id, devices in changed.items()
                for device_id, device in devices.items()
            ],
        )

    def tracked(self) -> tuple[set[str], set[str]]:
        """Whose devices are known, and whose have changed since they were asked for."""
        rows = self._db.execute("SELECT user_id, stale FROM tracked").fetchall()
        return {row[0] for row in rows if not row[1]}, {row[0] for row in rows if row[1]}

    def save_tracked(self, known: Iterable[str], stale: Iterable[str]) -> None:
        rows = [*((user, 0) for user in known), *((user, 1) for user in stale)]
        self._db.executemany("INSERT OR REPLACE INTO tracked VALUES (?, ?)", rows)

    # Trust on first use: every device is encrypted to, none counts as verified.

    def is_device_verified(self, device: OlmDevice) -> bool:
        return False

    def is_device_blacklisted(self, device: OlmDevice) -> bool:
        return False

    def is_device_ignored(self, device: OlmDevice) -> bool:
        return True

    def ignore_devices(self, devices: list[OlmDevice]) -> None:
        return None

    # Keys that we asked for, and events that wait for them.

    def load_outgoing_key_requests(self) -> dict[str, OutgoingKeyRequest]:
        rows = self._db.execute("SELECT request_id, session_id, room_id, algorithm FROM request")
        return {row[0]: OutgoingKeyRequest(*row) for row in rows}

    def add_outgoing_key_request(self, request: OutgoingKeyRequest) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO request VALUES (?, ?, ?, ?, ?, ?)",
            (*(request.request_id, request.session_id, request.room_id), *(request.algorithm, "", time.time())),
        )

    def remove_outgoing_key_request(self, request: OutgoingKeyRequest) -> None:
        self._db.execute("DELETE FROM request WHERE request_id = ?", (request.request_id,))

    def asked_whom(self, request_id: str) -> str:
        """The user whose device was asked for the key, "" when none was."""
        row = self._db.execute("SELECT user_id FROM request WHERE request_id = ?", (request_id,)).fetchone()
        return str(row[0]) if row else ""

    def note_asked(self, request_id: str, user_id: str) -> None:
        self._db.execute(
            "UPDATE request SET user_id = ?, at = ? WHERE request_id = ?", (user_id, time.time(), request_id)
        )

    def wait_for(self, event_id: str, room_id: str, session_id: str, sender: str) -> bool:
        """Keep in mind that this event waits for its key. False: it did already."""
        row = (event_id, room_id, session_id, sender, time.time(), 0)
        return self._db.execute("INSERT OR IGNORE INTO waiting VALUES (?, ?, ?, ?, ?, ?)", row).rowcount == 1

    def waiting(self, *, readable: bool = False, limit: int = 200) -> list[tuple[str, str, str, str, float]]:
        """``(event id, room id, session id, sender, since)``, oldest first; ``readable``: only those whose key is here now."""
        chosen = "SELECT event_id, waiting.room_id, waiting.session_id, sender, waiting.at FROM waiting "
        having = "JOIN inbound ON inbound.session_id = waiting.session_id AND inbound.room_id = waiting.room_id "
        order = "ORDER BY waiting.at, waiting.rowid LIMIT ?"
        rows = self._db.execute(chosen + (having if readable else "") + order, (limit,))
        return [tuple(row) for row in rows]

    def untold(self, before: float) -> list[tuple[str, str, str]]:
        """``(room id, sender, session id)`` of what has waited since before that time without anybody having said so."""
        rows = self._db.execute(
            "SELECT room_id, sender, session_id FROM waiting WHERE at < ? GROUP BY room_id, sender, session_id "
            "HAVING MAX(told) = 0 LIMIT 200",
            (before,),
        )
        return [tuple(row) for row in rows]

    def note_told(self, told: Iterable[tuple[str, str, str]]) -> None:
        self._db.executemany("UPDATE waiting SET told = 1 WHERE room_id = ? AND sender = ? AND session_id = ?", told)

    def count_waiting(self) -> int:
        return int(self._db.execute("SELECT COUNT(*) FROM waiting").fetchone()[0])

    def forget_waiting(self, event_ids: Iterable[str]) -> None:
        self._db.executemany("DELETE FROM waiting WHERE event_id = ?", [(one,) for one in event_ids])

    def forget_waiting_before(self, at: float) -> None:
        """Give up on what has waited since before that time."""
        self._db.execute("DELETE FROM waiting WHERE at < ?", (at,))

    def note_withheld(self, room_id: str, session_id: str, code: str) -> None:
        """Somebody's app told us that it gives us no key, and why (a code of ``m.room_key.withheld``)."""
        self._db.execute(
            "INSERT OR REPLACE INTO withheld VALUES (?, ?, ?, ?)", (room_id, session_id, code, time.time())
        )

    def withheld(self, room_id: str, session_id: str) -> str:
        row = self._db.execute(
            "SELECT code FROM withheld WHERE room_id = ? AND session_id IN (?, '') ORDER BY session_id DESC",
            (room_id, session_id),
        ).fetchone()
        return str(row[0]) if row else ""


class _Reading(dict[str, Any]):
    """A dictionary that reads what is asked of it for the first time."""

    def __init__(self, read: Any) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, key: str) -> Any:
        self[key] = value = self._read(key)
        return value


class _Sessions(SessionStore):
    def __init__(self, vault: Vault) -> None:
        self._entries = _Reading(vault.sessions_with)


class _Devices(DeviceStore):
    def __init__(self, vault: Vault) -> None:
        self._entries = _Reading(vault.devices_of)


class _GroupSessions(GroupSessionStore):
    """Keeps none in memory: an account in thousands of rooms has hundreds of thousands of keys, and reads with few."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def __iter__(self) -> Iterator[InboundGroupSession]:
        return iter(())

    def add(self, session: InboundGroupSession) -> bool:
        return self._vault.inbound(session.room_id, session.sender_key, session.id) is None

    def get(self, room_id: str, sender_key: str, session_id: str) -> InboundGroupSession | None:
        return self._vault.inbound(room_id, sender_key, session_id)

    def __getitem__(self, room_id: str) -> defaultdict[str, dict[str, InboundGroupSession]]:
        return defaultdict(dict)


def _pairs(text: str) -> set[tuple[str, str]]:
    return {(one[0], one[1]) for one in json.loads(text)}
