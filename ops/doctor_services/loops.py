"""Which processes start again and again."""

from __future__ import annotations

from datetime import datetime, timedelta

from ops.models import Process
from ops.processes.queries import START_SECONDS, RoleState, crashed, last_sign

WINDOW = timedelta(minutes=10)
STARTS = 3


# One that ended earlier never got to its work, whatever it said of itself.
SHORT = timedelta(seconds=60)


def failed_starts(states: dict[str, RoleState], now: datetime, roles: tuple[str, ...]) -> list[Process]:
    """Starts of these roles within ten minutes that came to nothing within one, newest first; none where one has stayed since."""
    found: list[Process] = []
    for role in roles:
        state = states.get(role)
        if state is None:
            continue
        stays = {
            row.host: row.started_at
            for row in (*state.dead[::-1], *state.alive)
            if last_sign(row) - row.started_at >= SHORT
        }
        for row in state.dead:
            later = stays.get(row.host)
            if (
                now - row.started_at <= WINDOW
                and last_sign(row) - row.started_at < SHORT
                and crashed(row, now)
                and not (later is not None and later >= row.started_at)
            ):
                found.append(row)
    return sorted(found, key=lambda row: row.started_at, reverse=True)


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
