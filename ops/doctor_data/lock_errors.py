"""Counts statements that failed because the database was locked, in whichever process that happened.

The count is written when the lock is free again, by a thread of its own: at the moment of the failure nothing can be written.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.utils import timezone

from ops.doctor_data import sqlite
from ops.logs import get_logger
from ops.models import Sighting
from ops.services.sightings import sighting_count

logger = get_logger(__name__)

SERVICE = "database"
KIND = "locked"
WINDOW = timedelta(hours=1)
_TRIES, _PAUSE = 60, 2.0
_lock = threading.Lock()
_pending = 0
_writer: threading.Thread | None = None


def is_lock_error(error: BaseException) -> bool:
    """SQLite's "database is locked" and PostgreSQL's lock and deadlock time-outs."""
    text = str(error)
    return "is locked" in text or "lock timeout" in text or "deadlock detected" in text


def counted_lately() -> int:
    """How many were counted within the last hour and not settled since."""
    rows = Sighting.objects.filter(service=SERVICE, kind=KIND, settled_at=None, last_at__gt=timezone.now() - WINDOW)
    return sum(rows.values_list("count", flat=True))


def note() -> None:
    """One more; written down soon."""
    global _pending, _writer
    with _lock:
        _pending += 1
        if _writer is None or not _writer.is_alive():
            _writer = threading.Thread(target=_write, name="lock errors", daemon=True)
            _writer.start()


def settle_down(seconds: float = 10.0) -> None:
    """Wait until what was noted is written."""
    writer = _writer
    if writer is not None:
        writer.join(seconds)


def _write() -> None:
    global _pending
    for _ in range(_TRIES):
        with _lock:
            count, _pending = _pending, 0
        if not count:
            return
        try:
            # The counter itself never raises, so it is asked for only when the lock can be had.
            if sqlite.is_sqlite() and sqlite.wait_for_write_lock(_PAUSE) is None:
                raise TimeoutError("still locked")
            sighting_count(service=SERVICE, kind=KIND, label="statements", times=count, sample="database is locked")
        except Exception:
            with _lock:
                _pending += count
            time.sleep(_PAUSE)
        finally:
            connections.close_all()
    logger.warning("lock_errors_not_counted")


def _watch(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    try:
        return execute(sql, params, many, context)
    except OperationalError as error:
        if is_lock_error(error) and threading.current_thread() is not _writer:
            note()
        raise


def _attach(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    if _watch not in connection.execute_wrappers:
        connection.execute_wrappers.append(_watch)


connection_created.connect(_attach, dispatch_uid="ops.lock_errors")
