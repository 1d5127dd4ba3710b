"""Writing every secret with the newest key: encrypted fields, and what apps register that lies outside of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings
from django.db import transaction

from ops.secret_columns import PORTION, SecretColumn, secret_columns
from ops.secrets import MARK, cipher


@dataclass(frozen=True, slots=True)
class RotationCount:
    """What ``rotate`` did with one field. ``unreadable``: rows whose key is missing (their primary keys in ``broken``)."""

    label: str
    rotated: int
    current: int
    empty: int
    unreadable: int
    broken: tuple[str, ...] = ()


_rotations: list[Callable[[bool], RotationCount]] = []


def register_rotation(rotation: Callable[[bool], RotationCount]) -> None:
    """Have ``rotate`` also re-encrypt what lies outside encrypted fields; it is called with ``dry_run``."""
    _rotations.append(rotation)


def reseal(stored: str) -> str | None:
    """A sealed text written with the newest key, or ``None`` when it is already. Raises ``InvalidToken`` when no key fits."""
    token = stored.removeprefix(MARK).encode()
    try:
        Fernet(settings.FIELD_ENCRYPTION_KEYS[0]).decrypt(token)
    except InvalidToken:
        return MARK + cipher().rotate(token).decode()
    return None


def rotate(*, dry_run: bool = False, batch: int = PORTION) -> list[RotationCount]:
    """Re-encrypt every secret that was not written with the newest key; returns one count a field.

    Works in batches by primary key, each in a transaction of its own, and may be stopped and started again. A row that somebody
    writes at the same time is left to them (they use the newest key). Reads and writes the stored text only.
    """
    fields = [_rotate_column(column, dry_run, batch) for column in secret_columns()]
    return [*fields, *rotations(dry_run=dry_run)]


def rotations(*, dry_run: bool = False) -> list[RotationCount]:
    """``rotate`` for what lies outside encrypted fields."""
    return [rotation(dry_run) for rotation in _rotations]


def _rotate_column(column: SecretColumn, dry_run: bool, batch: int) -> RotationCount:
    rotated = current = 0
    broken: list[str] = []
    for rows in column.portions(size=batch):
        changes = []
        for key, stored in rows:
            try:
                fresh = reseal(stored)
            except InvalidToken:
                broken.append(str(key))
                continue
            if fresh is None:
                current += 1
            else:
                changes.append((key, stored, fresh))
        rotated += len(changes)
        if changes and not dry_run:
            with transaction.atomic(using=column.connection.alias):
                column.write(changes)
    return RotationCount(column.label, rotated, current, column.empty(), len(broken), tuple(broken))
