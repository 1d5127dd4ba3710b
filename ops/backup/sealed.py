"""Secrets in rows of a backup: the same one is written differently each time, and a backup may have other keys than this installation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

from ops.backup.shapes import TableShape
from ops.secrets import MARK


class SealedRows:
    """Compares stored secrets by what they hold, and writes those of the backup with this installation's newest key."""

    def __init__(self, backup_keys: Iterable[str] = ()) -> None:
        ours = [Fernet(key) for key in settings.FIELD_ENCRYPTION_KEYS]
        self._ours = MultiFernet(ours) if ours else None
        theirs = [Fernet(key) for key in dict.fromkeys(backup_keys) if key not in settings.FIELD_ENCRYPTION_KEYS]
        self._theirs = MultiFernet(theirs) if theirs else None
        self.unreadable: dict[str, int] = {}

    def same(self, there: str | None, here: str | None) -> bool:
        """Whether both hold the same secret."""
        if there == here:
            return True
        if not there or not here:
            return False
        opened = self._open(there)
        return opened is not None and opened == self._open(here)

    def reads(self, stored: str | None) -> bool:
        """Whether there is a secret, and this installation can open it."""
        return bool(stored) and (not str(stored).startswith(MARK) or self._opens(self._ours, str(stored)) is not None)

    def ours(self, stored: str | None, where: str) -> str | None:
        """The stored secret in a form that this installation reads; what nobody can open stays as it is and is counted by ``where``."""
        if not stored or not stored.startswith(MARK) or self._opens(self._ours, stored) is not None:
            return stored
        plain = self._opens(self._theirs, stored)
        if plain is None or self._ours is None:
            self.unreadable[where] = self.unreadable.get(where, 0) + 1
            return stored
        return MARK + self._ours.encrypt(plain).decode()

    def rows(self, shape: TableShape, rows: Iterator[list[Any]]) -> Iterator[list[Any]]:
        """The rows with secrets that this installation reads."""
        secrets = [(place, column) for place, column in enumerate(shape.columns) if column.type == "secret"]
        for row in rows:
            for place, column in secrets:
                row[place] = self.ours(row[place], f"{shape.label}.{column.field}")
            yield row

    def _open(self, stored: str) -> bytes | None:
        if not stored.startswith(MARK):
            return stored.encode()
        opened = self._opens(self._ours, stored)
        return opened if opened is not None else self._opens(self._theirs, stored)

    def _opens(self, cipher: MultiFernet | None, stored: str) -> bytes | None:
        if cipher is None:
            return None
        try:
            return cipher.decrypt(stored.removeprefix(MARK).encode())
        except InvalidToken:
            return None
