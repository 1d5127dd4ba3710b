"""Writing how something ended when the database was what ended it: it is back in a moment, and then wants to know."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from django.db import InterfaceError, OperationalError, connection

from ops.logs import get_logger

log = get_logger(__name__)

T = TypeVar("T")

PATIENCE_SECONDS = 60.0
_PAUSE = 1.0


def when_back(write: Callable[[], T]) -> T:
    """``write()``, again and again while PostgreSQL cannot be reached, for at most ``PATIENCE_SECONDS``; raises what it raised last.

    Only for what may be done twice, outside of transactions. SQLite is a file: what fails there does not mend itself.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return write()
        except (OperationalError, InterfaceError) as error:
            if connection.vendor != "postgresql" or connection.in_atomic_block or time.monotonic() > until:
                raise
            log.warning("database_away", error=" ".join(str(error).split())[:200])
            connection.close()
            time.sleep(_PAUSE)
