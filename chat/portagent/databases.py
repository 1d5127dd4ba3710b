"""Portagent's databases: found below a path by what is in them, opened read-only, read in the order in which they are needed.

One read transaction is held on each, so that a Portagent that still runs changes nothing under us. A database that cannot be opened
where it lies (locked by its owner, or with a WAL in a folder that we may not write) is copied first, with its WAL.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from chat.portagent.rows import IMAGE, INVITE, MESSAGE, STORED, USER, SourceRow

_MAGIC = b"SQLite format 3\x00"
_DEPTH = 3
_MOST_FILES = 2000


class NotPortagent(Exception):
    """There is nothing of Portagent at that path; the sentence says what was found instead."""


class Databases:
    """``chat.portagent.rows.Source`` over one or two SQLite databases."""

    def __init__(self, path: Path) -> None:
        self._copies: list[Path] = []
        self._open: list[sqlite3.Connection] = []
        self.users_1: sqlite3.Connection | None = None
        self.users_2: sqlite3.Connection | None = None
        self.store: sqlite3.Connection | None = None
        self.found: dict[str, str] = {}
        try:
            self._find(path)
        except BaseException:
            self.close()
            raise
        self._sessions: dict[str, list[str]] | None = None
        self._seen: set[str] = set()

    @property
    def version(self) -> int:
        """1 or 2."""
        return 2 if self.users_2 is not None and self.users_1 is None else 1

    def users(self) -> Iterator[SourceRow]:
        if self.users_1 is not None:
            for row in _rows(self.users_1, "SELECT * FROM users ORDER BY createdAt, userId"):
                yield SourceRow(USER, str(row["userId"]), row)
        if self.users_2 is not None:
            for row in _rows(self.users_2, "SELECT * FROM users ORDER BY created_at, id"):
                yield SourceRow(USER, str(row["id"]), row)

    def invites(self) -> Iterator[SourceRow]:
        if self.users_2 is not None and "invite_codes" in _tables(self.users_2):
            for row in _rows(self.users_2, "SELECT * FROM invite_codes ORDER BY created_at, code"):
                yield SourceRow(INVITE, str(row["code"]), row)

    def images(self) -> Iterator[SourceRow]:
        sessions = self._sessions_of_images()
        for key, value in self._stored("images:"):
            image_id = key.removeprefix("images:")
            image = _json(value)
            if not isinstance(image, dict):
                yield _broken(key, value)
                continue
            own = str(image.get("sessionId") or "")
            known = [one for one in [own, *sessions.get(image_id, [])] if one]
            for number, session in enumerate(dict.fromkeys(known or [""])):
                self._seen.add(session)
                name = image_id if number == 0 else f"{image_id}#{session}"
                yield SourceRow(IMAGE, name[:255], {**image, "imageId": image_id, "sessionId": session})

    def messages(self, image: SourceRow) -> Iterator[SourceRow]:
        session = str(image.raw["sessionId"])
        text = self._value(f"messages:{session}")
        if text is None or self.store is None:
            return
        if not self._is_array(text):
            yield _broken(f"messages:{session}", text, image)
            return
        del text
        # Taken apart by SQLite, so that only one message at a time is an object of ours.
        parts = self.store.execute(
            "SELECT CAST(part.key AS INTEGER), part.type, part.value FROM kv_storage, json_each(kv_storage.value) AS part "
            "WHERE kv_storage.key = ?",
            [f"messages:{session}"],
        )
        for number, kind, value in parts:
            yield message_row(image, number, json.loads(value) if kind in ("object", "array") else value)

    def stored_messages(self, image: SourceRow) -> SourceRow | None:
        key = f"messages:{image.raw['sessionId']}"
        text = self._value(key)
        return (
            None
            if text is None
            else SourceRow(STORED, key, {"key": key, "value": text, "image": image.raw, "imageKey": image.key})
        )

    def leftovers(self) -> Iterator[SourceRow]:
        for key, _ in self._stored("messages:", "key, ''"):
            session = key.removeprefix("messages:")
            if session not in self._seen and (text := self._value(key)) is not None:
                yield SourceRow(
                    STORED,
                    key,
                    {"key": key, "value": text},
                    ("portagent.no_conversation", f"The messages of {session} belong to no conversation."),
                )

    def containers(self) -> dict[str, str]:
        """Owners that containers themselves name: container id to user id."""
        found = {}
        for key, value in self._stored("containers:"):
            container = _json(value)
            config = container.get("config") if isinstance(container, dict) else None
            owner = config.get("ownerId") if isinstance(config, dict) else None
            if isinstance(owner, str) and owner:
                found[key.removeprefix("containers:")] = owner
        return found

    def close(self) -> None:
        for connection in self._open:
            connection.close()
        self._open.clear()
        for copy in self._copies:
            shutil.rmtree(copy, ignore_errors=True)
        self._copies.clear()

    # Finding and opening

    def _find(self, path: Path) -> None:
        if not path.exists():
            raise NotPortagent(f"There is nothing at {path}.")
        others: list[str] = []
        for file in _sqlite_files(path):
            connection = self._connect(file)
            if connection is None:
                others.append(f"{file.name} (cannot be read)")
                continue
            columns = _columns(connection, "users")
            role = ""
            if {"userId", "passwordHash"} <= columns and self.users_1 is None:
                self.users_1, role = connection, "users of Portagent 1"
            elif {"id", "password_hash"} <= columns and self.users_2 is None:
                self.users_2, role = connection, "users of Portagent 2"
            elif self.store is None and {"key", "value"} <= _columns(connection, "kv_storage"):
                self.store, role = connection, "conversations"
            if role:
                self.found[str(file)] = role
            else:
                others.append(file.name)
                connection.close()
                self._open.remove(connection)
        if not self.found:
            seen = f" These are no databases of Portagent 1.9 or 2: {', '.join(others[:8])}." if others else ""
            raise NotPortagent(
                f"No database of Portagent was found at {path}.{seen} Give the folder that AGENTX_DIR named, its data folder, "
                "one of its databases, or a file of rejects."
            )

    def _connect(self, file: Path) -> sqlite3.Connection | None:
        try:
            return self._reading(f"{file.resolve().as_uri()}?mode=ro")
        except sqlite3.Error:
            pass
        copy = Path(tempfile.mkdtemp(prefix="switchboard-portagent-"))
        self._copies.append(copy)
        try:
            for suffix in ("", "-wal"):
                beside = file.with_name(file.name + suffix)
                if beside.exists():
                    shutil.copy2(beside, copy / beside.name)
            connection = self._reading(f"{(copy / file.name).as_uri()}?mode=rw", check=True)
        except (OSError, sqlite3.Error):
            return None
        return connection

    def _reading(self, address: str, *, check: bool = False) -> sqlite3.Connection:
        connection = sqlite3.connect(address, uri=True, timeout=3, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.text_factory = lambda data: data.decode("utf-8", "replace")
            if check and connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("The copy is not whole.")
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error:
            connection.close()
            raise
        self._open.append(connection)
        return connection

    # Reading

    def _stored(self, prefix: str, columns: str = "key, value") -> Iterator[tuple[str, str]]:
        if self.store is None:
            return
        after = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        # By pages: the caller reads other rows meanwhile, and a cursor over everything would hold whole arrays.
        last = prefix
        while True:
            rows = self.store.execute(
                f"SELECT {columns} FROM kv_storage WHERE key > ? AND key < ? ORDER BY key LIMIT 200",  # noqa: S608
                [last, after],
            ).fetchall()
            for key, value in rows:
                yield str(key), str(value)
            if len(rows) < 200:
                return
            last = rows[-1][0]

    def _value(self, key: str) -> str | None:
        if self.store is None:
            return None
        row = self.store.execute("SELECT value FROM kv_storage WHERE key = ?", [key]).fetchone()
        return None if row is None else str(row[0])

    def _is_array(self, text: str) -> bool:
        assert self.store is not None
        valid, kind = self.store.execute(
            "SELECT json_valid(?1), CASE WHEN json_valid(?1) THEN json_type(?1) END", [text]
        ).fetchone()
        return bool(valid) and kind == "array"

    def _sessions_of_images(self) -> dict[str, list[str]]:
        if self._sessions is None:
            self._sessions = {}
            for key, value in self._stored("sessions:"):
                session = _json(value)
                if isinstance(session, dict) and isinstance(session.get("imageId"), str):
                    self._sessions.setdefault(session["imageId"], []).append(key.removeprefix("sessions:"))
        return self._sessions


def message_row(image: SourceRow, number: int, message: Any) -> SourceRow:
    """One message of a conversation. Without an id of its own it is known by its place."""
    session = str(image.raw["sessionId"])
    name = message.get("id") if isinstance(message, dict) else None
    raw = {"imageId": image.key, "sessionId": session, "message": message}
    key = f"{session}/{name if isinstance(name, str) and name else f'#{number}'}"
    return SourceRow(MESSAGE, key[:255], raw)


def _broken(key: str, value: str, image: SourceRow | None = None) -> SourceRow:
    what = "image" if key.startswith("images:") else "list of messages"
    raw: dict[str, Any] = {"key": key, "value": value}
    if image is not None:
        raw |= {"image": image.raw, "imageKey": image.key}
    return SourceRow(STORED, key[:255], raw, ("portagent.broken_json", f"{key} is not JSON of an {what}."))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _rows(connection: sqlite3.Connection, statement: str) -> Iterator[dict[str, Any]]:
    cursor = connection.execute(statement)
    names = [column[0] for column in cursor.description]
    for row in cursor:
        yield {
            name: value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            for name, value in zip(names, row, strict=True)
        }


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})")}


def _sqlite_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if _is_sqlite(path) else []
    found = []
    near = (file for file in path.rglob("*") if len(file.parts) - len(path.parts) <= _DEPTH)
    for file in sorted(islice(near, _MOST_FILES), key=lambda one: (len(one.parts), str(one))):
        if file.is_file() and not file.is_symlink() and _is_sqlite(file):
            found.append(file)
    return found


def _is_sqlite(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(16) == _MAGIC
    except OSError:
        return False
