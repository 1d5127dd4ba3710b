"""The secrets in the accounts' files are sealed anew when the installation's key changes (``manage.py rotate_encryption_keys``)."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from cryptography.fernet import InvalidToken

from agents.matrix.crypto import folder
from ops.secret_rotation import RotationCount, register_rotation, reseal

LABEL = "keys of encrypted rooms (DATA_DIR/crypto)"


def _rotate(dry_run: bool) -> RotationCount:
    """Only what the files' own passphrases are sealed with changes; the keys in them stay as they are."""
    rotated = current = 0
    broken: list[str] = []
    for path in folder.files():
        try:
            changed = _reseal_file(path, dry_run)
        except (InvalidToken, sqlite3.DatabaseError, folder.Busy):
            broken.append(path.name)
            continue
        rotated, current = (rotated + 1, current) if changed else (rotated, current + 1)
    return RotationCount(LABEL, rotated, current, 0, len(broken), tuple(broken))


def _reseal_file(path: Path, dry_run: bool) -> bool:
    with folder.held(path), closing(sqlite3.connect(path, timeout=30)) as database, database:
        rows = database.execute("SELECT name, value FROM meta WHERE name IN ('passphrase', 'seeds')").fetchall()
        fresh = [(new, name) for name, stored in rows if (new := reseal(stored)) is not None]
        if not dry_run:
            database.executemany("UPDATE meta SET value = ? WHERE name = ?", fresh)
    return bool(fresh)


register_rotation(_rotate)
