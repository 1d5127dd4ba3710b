"""Stillness: while rows are put back nobody else writes, and nothing is taken up.

Whoever changes rows under everybody's feet (a restore, a reset) holds ``quiet``. Meanwhile workers claim no turns, deliveries and jobs,
a homeserver's transactions are answered with 503, so that it sends them again, and writes of people and programs are refused
with the advice to come back. Held by a row of ``NamedLock``, so all processes of the installation see it; over when its holder is gone.

``RestoreEpoch`` is looked at along with it: when its number changes, what processes remember of former rows is dropped (``on_restored``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from asgiref.sync import sync_to_async
from django.db import DatabaseError, close_old_connections, connection
from django.utils import timezone

from ops.database_away import when_back
from ops.leases import holder_is_dead, holder_lives_here
from ops.locks import HeldLock, named_lock
from ops.logs import get_logger
from ops.models import NamedLock, RestoreEpoch
from ops.words import counted

log = get_logger(__name__)

PREFIX = "quiet:"
# Seconds. So long a process may go by what it saw last; so long what was begun before is waited for.
CACHE_SECONDS = 0.8
DRAIN_SECONDS = 20.0
JOBS_SECONDS = 120.0
# What a client is told to wait.
RETRY_AFTER = 10
_TTL = 60.0
# On SQLite (only there) the lock's own row cannot be renewed while the holder writes; its process is looked at instead, for so long.
_AT_MOST = timedelta(hours=12)

_seen: tuple[str, float] = ("", float("-inf"))
_looking = threading.Lock()
_mine = threading.local()
_life: str | None = None
_drains: dict[str, tuple[Callable[[], int], bool]] = {}
_after: list[Callable[[], None]] = []


class Quiet(Exception):
    """Nothing is written at the moment. ``code`` and ``sentence`` are for whoever asked."""

    code = "installation.quiet"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.sentence = f"{reason}. Nothing was changed; try again in a moment."
        super().__init__(self.sentence)


class StillBusy(Exception):
    """Quiet cannot begin: work that must not be cut off goes on. The text names it."""


def register_drain(name: str, count: Callable[[], int], *, needed: bool = False) -> None:
    """Name work that is waited for before quiet begins: ``count`` says how much of it goes on. ``needed``: without its end there is no quiet."""
    _drains[name] = (count, needed)


def on_restored(forget: Callable[[], None]) -> None:
    """Have this called, in every process, when rows were put back: memories of former rows are worth nothing."""
    if forget not in _after:
        _after.append(forget)


@contextmanager
def quiet(reason: str) -> Iterator[None]:
    """Hold everybody else still for the block. ``reason`` is the beginning of a sentence for people: "A backup is being restored".

    Waits until all processes have seen it and what they had begun is done; turns and deliveries that take longer lose their lease.
    Nests within one thread. Raises ``LockHeld`` when somebody does the same at this moment, ``StillBusy`` when a job does not end.
    Call it outside of transactions.
    """
    if getattr(_mine, "depth", 0):
        _mine.depth += 1
        try:
            yield
        finally:
            _mine.depth -= 1
        return
    reason = reason.rstrip(".")[: 100 - len(PREFIX)]
    with named_lock(PREFIX + reason, ttl=_TTL, release=_end):
        _forget_seen()
        _mine.depth = 1
        log.info("quiet.begins", reason=reason)
        try:
            time.sleep(CACHE_SECONDS)
            _mine.since = timezone.now()
            _drain()
            yield
        finally:
            _mine.depth = 0


def is_quiet() -> str:
    """Why nothing is written at the moment, "" when everything goes its way. Cheap: one look at the database a second."""
    global _seen
    said, at = _seen
    if time.monotonic() - at < CACHE_SECONDS:
        return said
    if not _looking.acquire(blocking=False):
        return said
    try:
        try:
            said = _look()
        except Exception as error:
            # Without the database what was known last counts.
            log.debug("quiet.not_seen", error=str(error)[:200])
        _seen = (said, time.monotonic())
    finally:
        _looking.release()
    return said


async def is_quiet_async() -> str:
    """``is_quiet`` for coroutines."""
    said, at = _seen
    if time.monotonic() - at < CACHE_SECONDS:
        return said
    # Not in the one thread in which requests are handled: whoever only looks does not wait for them.
    return await sync_to_async(_look_apart, thread_sensitive=False)()


def _look_apart() -> str:
    close_old_connections()
    try:
        return is_quiet()
    finally:
        close_old_connections()


def life() -> str:
    """What stays the same until rows are put back, as far as this process has seen ("" before it looked). Whoever holds copies of rows
    that are older begins anew."""
    return _life or ""


def still_since() -> datetime | None:
    """Since when nobody takes anything up or in, when it is this thread that holds them still."""
    return getattr(_mine, "since", None) if held_here() else None


def held_here() -> bool:
    """Whether this very thread holds everybody else still."""
    return bool(getattr(_mine, "depth", 0))


def refuse_when_quiet() -> None:
    """Raises ``Quiet`` while rows are put back, unless it is this thread that does so."""
    if not held_here() and (reason := is_quiet()):
        raise Quiet(reason)


def look_again() -> None:
    """Go by the database at the next question: after a change, and between tests."""
    _forget_seen()


def _look() -> str:
    found = ""
    now = timezone.now()
    for name, holder, expires_at in NamedLock.objects.filter(name__startswith=PREFIX).values_list(
        "name", "holder", "expires_at"
    ):
        worker = holder.rpartition("/")[0]
        alive = expires_at > now or (
            connection.vendor == "sqlite" and holder_lives_here(worker) and expires_at > now - _AT_MOST
        )
        if alive and not holder_is_dead(worker):
            found = name.removeprefix(PREFIX)
    _look_at_epoch()
    return found


def _look_at_epoch() -> None:
    global _life
    row = RestoreEpoch.objects.order_by("pk").values_list("number", "at").first()
    # The number alone begins anew with an empty database.
    life = f"{row[0]}.{int(row[1].timestamp()) if row[1] else 0}" if row else "0"
    before, _life = _life, life
    if before is None or before == life:
        return
    log.info("restored.noticed", life=life)
    for forget in _after:
        try:
            forget()
        except Exception:
            log.exception("restored.not_forgotten", what=getattr(forget, "__qualname__", str(forget)))


def _drain() -> None:
    """Wait for what had been begun."""
    from_now = time.monotonic()
    while True:
        left = {name: (count(), needed) for name, (count, needed) in _drains.items()}
        busy = {name: entry for name, entry in left.items() if entry[0]}
        waited = time.monotonic() - from_now
        if not busy:
            return
        if waited > DRAIN_SECONDS and not any(needed for _, needed in busy.values()):
            log.warning("quiet.not_waited_for", **{name: number for name, (number, _) in busy.items()})
            return
        if waited > JOBS_SECONDS:
            names = ", ".join(f"{number} of {name}" for name, (number, needed) in busy.items() if needed)
            raise StillBusy(
                f"{names} did not end within {counted(int(JOBS_SECONDS), 'second', 'seconds')}, and must not be cut off. "
                "Let that end, or cancel it, and begin again. Nothing was changed."
            )
        time.sleep(0.2)


def _end(lock: HeldLock) -> None:
    _remove(lock.name)
    _forget_seen()
    log.info("quiet.ends", reason=lock.name.removeprefix(PREFIX))


def _remove(name: str) -> None:
    """The row goes: as long as its process lives, others would else have to take the lock for held. Where the database is away for longer, the
    row has not been renewed by then, which ends it as well."""
    for attempt in range(5):
        try:
            when_back(lambda: NamedLock.objects.filter(name=name).delete())
            return
        except DatabaseError:
            log.warning("quiet.not_released", attempt=attempt, exc_info=True)
            time.sleep(1.0)


def _forget_seen() -> None:
    global _seen
    _seen = (_seen[0], float("-inf"))
