"""What is known about the processes of this installation. Every function asks the database a constant number of times."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import psutil
from django.conf import settings
from django.utils import timezone

from ops.leases import holder_is_dead
from ops.models import Process
from ops.models.process import ProcessRole
from ops.processes.facts import boot_id

# Three reports that did not come.
ALIVE_SECONDS = 30.0
# A process that ended is missed after so long: whoever restarts it needs a moment.
ABSENT_SECONDS = 20.0
# A start is behind us when a process has been up for so long.
START_SECONDS = 120.0


def expected_roles() -> tuple[str, ...]:
    """The roles without which Switchboard does not work, in the order in which they start."""
    if settings.EMBEDDED:
        return (ProcessRole.UP.value,)
    return (ProcessRole.WEB.value, ProcessRole.WORKER.value, ProcessRole.BEAT.value)


def is_gone(row: Process) -> bool:
    """True when the process ran where we can look, and is certainly no more (or is another one by now)."""
    if row.boot_id != boot_id():
        return False
    if holder_is_dead(row.name):
        return True
    try:
        return bool(psutil.Process(row.pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def is_alive(row: Process, now: datetime | None = None) -> bool:
    """Reported lately, has not said that it ended, and is not known to be gone."""
    now = now or timezone.now()
    return row.ended_at is None and now - row.seen_at <= timedelta(seconds=ALIVE_SECONDS) and not is_gone(row)


def last_sign(row: Process) -> datetime:
    """When it was last known to live."""
    return row.ended_at or row.seen_at


def crashed(row: Process, now: datetime | None = None) -> bool:
    """It is no more, and did not end as a process does that was asked to: killed, failed, or never got to its work."""
    if is_alive(row, now):
        return False
    if row.ended_at is None:
        return True
    return row.end_reason.startswith("Error:") or (
        row.ready_after_seconds is None and row.drain_requested_at is None and not row.end_reason.startswith("Settled")
    )


@dataclass(slots=True)
class RoleState:
    """The processes of one role: those alive (oldest first), and the others of the last day (newest first)."""

    role: str
    alive: list[Process] = field(default_factory=list)
    dead: list[Process] = field(default_factory=list)

    @property
    def last_seen(self) -> datetime | None:
        return max((last_sign(row) for row in (*self.alive, *self.dead)), default=None)


def by_role(since: timedelta = timedelta(days=1), *, full: bool = False) -> dict[str, RoleState]:
    """Every role's processes that gave a sign of life within ``since``. ``full`` reads samples and settings as well."""
    now = timezone.now()
    rows = Process.objects.filter(seen_at__gt=now - since).order_by("-started_at")
    if not full:
        rows = rows.defer("samples", "settings_seen", "reach")
    found = {role: RoleState(role) for role in ProcessRole.values}
    for row in rows[:500]:
        state = found.setdefault(row.role, RoleState(row.role))
        (state.alive if is_alive(row, now) else state.dead).append(row)
    for state in found.values():
        state.alive.reverse()
        state.dead.sort(key=last_sign, reverse=True)
    return found


def alive(roles: Iterable[str] = ()) -> list[Process]:
    """Processes that live, of these roles or all, oldest first; samples included."""
    now = timezone.now()
    rows = Process.objects.filter(ended_at=None, seen_at__gt=now - timedelta(seconds=ALIVE_SECONDS))
    wanted = list(roles)
    if wanted:
        rows = rows.filter(role__in=wanted)
    return [row for row in rows.order_by("started_at") if not is_gone(row)]


def control_plane_started(states: dict[str, RoleState]) -> datetime | None:
    """When the oldest process that lives began; None when nothing lives."""
    return min((row.started_at for state in states.values() for row in state.alive), default=None)


def label(row: Process) -> str:
    """``the worker on host (process 42)``."""
    return f"the {ROLE_WORDS.get(row.role, row.role)} on {row.host} (process {row.pid})"


ROLE_WORDS = {"up": "Switchboard process", "web": "web server", "worker": "worker", "beat": "beat"}
