"""Work that another process put into the database, found at once: for embedded mode, whose broker lives in one process.

``manage.py say`` in a second terminal writes rows and cannot wake anybody. SQLite tells a connection cheaply whether somebody
else has committed (``PRAGMA data_version``), so one thread of the worker asks that many times a second, and looks for work only
when something was written.
"""

from __future__ import annotations

import threading
from datetime import timedelta

from django.db import DatabaseError, connection
from django.utils import timezone

from chat.deliveries import run as deliveries
from chat.turns import claim
from chat.wakeup import wake_deliveries, wake_turns
from ops.logs import get_logger

log = get_logger(__name__)

LOOK_EVERY = 0.05
# Work of this process has been woken by whoever made it; only what still waits after a moment is a latecomer.
GRACE = timedelta(seconds=0.15)


class Latecomers(threading.Thread):
    """Runs until ``stop`` is set. Does nothing on other databases: there the processes share a broker."""

    def __init__(self) -> None:
        super().__init__(name="latecomers", daemon=True)
        self.stop = threading.Event()
        self._seen = -1

    def run(self) -> None:
        if connection.vendor != "sqlite":
            return
        try:
            while not self.stop.wait(LOOK_EVERY):
                try:
                    self.look()
                except DatabaseError as error:
                    log.debug("latecomers.skipped", error=str(error)[:200])
                    connection.close()
        finally:
            connection.close()

    def look(self) -> bool:
        """Wake what waits, if anybody has written since the last look. Returns whether somebody had."""
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA data_version")
            version = cursor.fetchone()[0]
        if version == self._seen:
            return False
        # A write may be so young that its own process is just waking it: the work is looked for a moment later, and the
        # version is taken over only then, so that nothing written in between is missed.
        if self.stop.wait(GRACE.total_seconds()):
            return False
        self._seen = version
        due = timezone.now() - GRACE
        wake_turns([turn.pk for turn in claim.runnable(due_before=due, limit=50).only("pk")])
        wake_deliveries(list(deliveries.runnable(due_before=due, limit=50).values_list("pk", flat=True)))
        return True
