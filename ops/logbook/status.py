"""What the logbook of each process says of itself: one row a process, renewed every few seconds, that readers of lines leave out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from ops.logbook.rows import STATUS_LOGGER
from ops.models import LogLine

EVERY = 20.0
# One that has said nothing for so long has stopped, or its process has.
LATE = timedelta(seconds=90)
SHOWN_FOR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class LogbookStatus:
    """One process's logbook. ``facts`` are its keeper's, with ``levels``, ``captures``, ``dropped_at`` and ``ended``."""

    process: str
    role: str
    at: datetime
    facts: dict[str, Any]

    @property
    def ended(self) -> bool:
        """It stopped in order, with its process."""
        return bool(self.facts.get("ended"))

    @property
    def late(self) -> bool:
        """It should have said something by now."""
        return not self.ended and timezone.now() - self.at > LATE

    @property
    def works(self) -> bool:
        """Its process lives, and so does it."""
        return not self.ended and not self.late


def write_status(*, process: str, role: str, facts: dict[str, Any]) -> None:
    """Renew the row of this process."""
    now = timezone.now()
    rows = LogLine.objects.filter(logger=STATUS_LOGGER, process=process[:150])
    if not rows.update(at=now, extra=facts, role=role[:8]):
        LogLine.objects.create(
            at=now,
            level="debug",
            role=role[:8],
            process=process[:150],
            logger=STATUS_LOGGER,
            event="logbook",
            extra=facts,
        )


def statuses(within: timedelta = SHOWN_FOR) -> list[LogbookStatus]:
    """Those that said something lately, the newest first; one query."""
    rows = LogLine.objects.filter(at__gt=timezone.now() - within, level="debug", logger=STATUS_LOGGER)
    return [
        LogbookStatus(process, role, at, dict(extra or {}))
        for process, role, at, extra in rows.order_by("-at").values_list("process", "role", "at", "extra")
    ]


def running() -> list[LogbookStatus]:
    """Processes whose logbook works now."""
    return [one for one in statuses() if one.works]
