"""Locks by name on rows: one holder in the whole installation, on SQLite and PostgreSQL alike.

A lock lasts ``ttl`` seconds and is renewed by a thread while it is held; when its process dies it is taken over as soon as it
expires, or at once by a process on the same host, which can see that the holder is gone. ``fence`` grows with every taking:
a holder that was taken for dead finds ``lost`` true. Take locks outside of transactions: inside, others see nothing until commit.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db import IntegrityError, connection, connections, models, transaction
from django.utils import timezone

from ops.leases import WORKER, holder_is_dead
from ops.logs import get_logger
from ops.models import NamedLock

logger = get_logger(__name__)


class LockHeld(Exception):
    """Somebody else has the lock. ``holder`` says who."""

    def __init__(self, name: str, holder: str) -> None:
        super().__init__(
            f"The lock {name!r} is held by {holder or 'somebody else'}. Try again when that work has ended."
        )
        self.name = name
        self.holder = holder


class LockLost(Exception):
    """The lock was taken over while we held it: whatever we do now, somebody else may be doing as well."""


class HeldLock:
    """A lock while it is held. ``fence`` is the number to write along with what it protects."""

    def __init__(self, name: str, holder: str, fence: int, ttl: float) -> None:
        self.name = name
        self.holder = holder
        self.fence = fence
        self.ttl = ttl
        self._renewed = time.monotonic()
        self._taken_over = False

    @property
    def lost(self) -> bool:
        """True when somebody took it over, or when it could not be renewed in time."""
        return self._taken_over or time.monotonic() - self._renewed > self.ttl

    def check(self) -> None:
        """Raises ``LockLost`` when the lock is ours no longer; to be called before every step that must not happen twice."""
        if self.lost:
            raise LockLost(f"The lock {self.name!r} was lost; this work stops so that it is not done twice.")

    def renew(self) -> bool:
        """Prolong it by ``ttl`` from now. False: it was taken over."""
        asked = time.monotonic()
        kept = self._rows().update(expires_at=timezone.now() + timedelta(seconds=self.ttl))
        if kept:
            self._renewed = asked
        else:
            self._taken_over = True
        return bool(kept)

    def release(self) -> None:
        """Free it, if it still is ours. The row stays: it remembers the fence."""
        self._rows().update(expires_at=timezone.now())

    def _rows(self) -> models.QuerySet[NamedLock]:
        return NamedLock.objects.filter(name=self.name, holder=self.holder, fence=self.fence)


@contextmanager
def named_lock(
    name: str, *, ttl: float = 60.0, wait: float = 0.0, release: Callable[[HeldLock], None] = HeldLock.release
) -> Iterator[HeldLock]:
    """Hold the lock ``name`` for the block; waits up to ``wait`` seconds for it. Raises ``LockHeld``. ``release`` ends it in another way,
    when nobody renews it any more."""
    lock = _take_within(name, ttl, wait)
    stop = threading.Event()
    renewer = threading.Thread(target=_keep, args=(lock, stop), name=f"lock {name}", daemon=True)
    renewer.start()
    try:
        yield lock
    finally:
        stop.set()
        renewer.join(timeout=5)
        release(lock)


def seconds_over_a_transaction() -> float:
    """The ``ttl`` for work with a long transaction of its own. On SQLite nobody, not even the holder, can renew a lock while rows are
    written; a holder that dies is seen at once, since all processes are on one host there."""
    return 6 * 3600.0 if connection.vendor == "sqlite" else 60.0


def is_held(name: str) -> bool:
    """Whether somebody who lives holds the lock at this moment."""
    row = NamedLock.objects.filter(name=name).first()
    return row is not None and _holds(row)


def _holds(row: NamedLock) -> bool:
    return row.expires_at > timezone.now() and not holder_is_dead(row.holder.rpartition("/")[0])


def _take_within(name: str, ttl: float, wait: float) -> HeldLock:
    holder = f"{WORKER}/{uuid.uuid4().hex[:12]}"
    until = time.monotonic() + wait
    pause = 0.02
    while True:
        fence = _take(name, holder, ttl)
        if fence is not None:
            return HeldLock(name, holder, fence, ttl)
        if time.monotonic() >= until:
            present = NamedLock.objects.filter(name=name).values_list("holder", flat=True).first()
            raise LockHeld(name, present or "")
        time.sleep(min(pause, max(0.0, until - time.monotonic())))
        pause = min(0.5, pause * 1.6)


def _take(name: str, holder: str, ttl: float) -> int | None:
    """One try; the fence when it was ours to take."""
    now = timezone.now()
    expires = now + timedelta(seconds=ttl)
    known = NamedLock.objects.filter(name=name).first()
    if known is None:
        try:
            with transaction.atomic():
                NamedLock.objects.create(name=name, holder=holder, fence=1, expires_at=expires)
        except IntegrityError:
            return None
        return 1
    if _holds(known):
        return None
    # Conditional on the fence that we read: of several who see it free, one gets it.
    taken = NamedLock.objects.filter(name=name, fence=known.fence, expires_at=known.expires_at).update(
        holder=holder, fence=known.fence + 1, expires_at=expires
    )
    return known.fence + 1 if taken else None


def _keep(lock: HeldLock, stop: threading.Event) -> None:
    try:
        while not stop.wait(lock.ttl / 3):
            try:
                # Renewing may have waited for the database until after the end of the block.
                if not lock.renew():
                    if not stop.is_set():
                        logger.error("lock_lost", lock=lock.name)
                    return
            except Exception:
                # The database may be back before the lock expires.
                logger.warning("lock_not_renewed", lock=lock.name, exc_info=True)
    finally:
        connections.close_all()
