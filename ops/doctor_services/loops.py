"""Which processes start again and again."""

from __future__ import annotations

from datetime import datetime, timedelta

from ops.models import Process
from ops.processes.queries import START_SECONDS, RoleState, crashed

WINDOW = timedelta(minutes=10)
STARTS = 3


def looping(states: dict[str, RoleState], now: datetime) -> dict[tuple[str, str], list[Process]]:
    """``{(role, host): its failed starts, newest first}`` where three starts within ten minutes came to nothing.

    Restarts that somebody asked for do not count, nor those before a preflight that found nothing wrong. One that has been
    up for two minutes ends the loop.
    """
    found: dict[tuple[str, str], list[Process]] = {}
    for role, state in states.items():
        steady = {row.host for row in state.alive if now - row.started_at >= timedelta(seconds=START_SECONDS)}
        for row in state.dead:
            if row.host not in steady and now - row.started_at <= WINDOW and crashed(row, now):
                found.setdefault((role, row.host), []).append(row)
    return {place: rows for place, rows in found.items() if len(rows) >= STARTS}
