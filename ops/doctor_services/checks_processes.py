"""Which of our processes are there: the ones that were lost, the ones that never came, and the web server."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import httpx
from django.conf import settings
from django.utils import timezone

from ops.adapters import adapter_for, role_part
from ops.doctor_services.loops import looping
from ops.html import relative
from ops.models import Process
from ops.processes.facts import boot_id
from ops.processes.queries import (
    ABSENT_SECONDS,
    ROLE_WORDS,
    START_SECONDS,
    RoleState,
    by_role,
    control_plane_started,
    crashed,
    expected_roles,
    label,
    last_sign,
)
from ops.registry import Affected, CheckOutcome, Fix, register_check
from ops.words import counted

_LOOK_BACK = timedelta(days=14)
# A process that was lost among others of its role is news for so long.
_LOST = timedelta(hours=1)
_NEVER = CheckOutcome("skip", "No process of Switchboard has reported here yet.")


def missing_roles(states: dict[str, RoleState], now: datetime) -> tuple[list[str], list[str]]:
    """Expected roles of which nothing lives: those that were lost, and those that never came since the others started.

    A role that starts again and again is neither: ``svc.crash_loop`` tells of it.
    """
    control = control_plane_started(states)
    lost, never = [], []
    loops = {role for role, _ in looping(states, now)}
    for role in expected_roles():
        state = states[role]
        if state.alive or role in loops:
            continue
        seen = state.last_seen
        if control is not None and (seen is None or seen < control):
            if now - control >= timedelta(seconds=START_SECONDS):
                never.append(role)
        elif seen is not None and now - seen >= timedelta(seconds=ABSENT_SECONDS):
            lost.append(role)
    return lost, never


def unreplaced(state: RoleState, now: datetime) -> list[Process]:
    """Processes of a role that were lost within the hour and in whose place no other has started."""
    starts = sorted(row.started_at for row in (*state.alive, *state.dead))
    found = []
    for row in sorted(state.dead, key=last_sign):
        if not crashed(row, now) or now - last_sign(row) > _LOST:
            continue
        # A report may be ten seconds old when the process dies and the next one starts.
        after = [start for start in starts if start > row.started_at and start >= last_sign(row) - timedelta(seconds=5)]
        if after:
            starts.remove(after[0])
        elif now - last_sign(row) >= timedelta(seconds=ABSENT_SECONDS):
            found.append(row)
    return found


@register_check(
    "svc.down",
    title="No process of Switchboard was lost",
    tags=("start", "processes"),
    interval=15,
    severity="critical",
    depends_on=("db.reachable",),
    repairs=("service.restart", "stack.start"),
)
def down() -> CheckOutcome:
    """Red when worker or beat (or all of it) was there and is no more; a warning when one of several was lost.

    Every process reports itself every ten seconds. Where its process id can be looked up it is missed as soon as it is gone,
    else after three reports that did not come; ``ABSENT_SECONDS`` are left for whoever restarts it. The web server has a check
    of its own (``api.down``), a role that never came up has ``svc.stack_start``.
    """
    now = timezone.now()
    states = by_role(_LOOK_BACK)
    newest = max((state.last_seen for state in states.values() if state.last_seen), default=None)
    if newest is None:
        return _NEVER
    if control_plane_started(states) is None:
        return _nothing_runs(states, newest, now)
    lost = [role for role in missing_roles(states, now)[0] if role != "web"]
    if lost:
        affected = tuple(Affected(f"role:{role}", *_about(states[role], now)) for role in lost)
        words = " and ".join(ROLE_WORDS[role] for role in lost)
        fix = Fix("service.restart", f"role:{lost[0]}" if len(lost) == 1 else "")
        sentence = f"There is no {words} any more. {affected[0].sentence} Messages wait until it runs again: start it."
        return CheckOutcome("fail", sentence, _evidence(states, lost), affected, fix)
    gone = [row for role in expected_roles() for row in unreplaced(states[role], now) if states[role].alive]
    if gone:
        affected = tuple(Affected(f"process:{row.pk}", _last_words(row, now)) for row in gone)
        sentence = f"{len(gone)} of several processes was lost and not replaced: {affected[0].sentence} The others do its work."
        return CheckOutcome("warn", sentence, _evidence(states, [row.role for row in gone]), affected)
    count = sum(len(state.alive) for state in states.values())
    return CheckOutcome("pass", f"Every process is there: {counted(count, 'reports', 'report')}.", {"processes": count})


def _nothing_runs(states: dict[str, RoleState], newest: datetime, now: datetime) -> CheckOutcome:
    if now - newest < timedelta(seconds=ABSENT_SECONDS):
        return CheckOutcome("pass", "Everything has just ended; somebody may be restarting it.")
    roles = list(expected_roles())
    affected = tuple(Affected(f"role:{role}", *_about(states[role], now)) for role in roles)
    command = adapter_for(role_part(roles[0])).command(role_part(roles[0]), "start")
    sentence = f"Nothing of Switchboard runs; the last sign of life came {relative(newest, now)}. Start it: {command}"
    return CheckOutcome("fail", sentence, _evidence(states, roles), affected, Fix("stack.start"))


@register_check(
    "svc.stack_start",
    title="Everything that belongs to Switchboard was started",
    tags=("start", "processes"),
    interval=30,
    severity="error",
    depends_on=("db.reachable", "svc.down"),
    repairs=("stack.start",),
)
def stack_start() -> CheckOutcome:
    """Red when two minutes after the first process a role has not reported at all: somebody forgot to start it."""
    now = timezone.now()
    states = by_role(_LOOK_BACK)
    control = control_plane_started(states)
    if control is None:
        return _NEVER if not any(state.dead for state in states.values()) else CheckOutcome("skip", "Nothing runs.")
    never = missing_roles(states, now)[1]
    evidence = {
        "running_since": control.isoformat(),
        "expected": list(expected_roles()),
        "missing": never,
        "commands": _commands(never),
    }
    if not never:
        return CheckOutcome("pass", "Everything that was expected has reported.", evidence)
    words = " and ".join(f"the {ROLE_WORDS[role]}" for role in never)
    affected = tuple(Affected(f"role:{role}", f"It has not reported since {control:%H:%M}.") for role in never)
    sentence = f"Switchboard runs since {relative(control, now)}, and {words} never came up. Bring the stack up."
    return CheckOutcome("fail", sentence, evidence, affected)


@register_check(
    "api.down",
    title="The web server runs and answers",
    tags=("start", "processes", "api"),
    interval=30,
    severity="critical",
    timeout=12,
    depends_on=("db.reachable",),
    opens_after=2,
    repairs=("service.restart",),
)
def api_down() -> CheckOutcome:
    """Red when the web server was lost, or runs and answers nothing at /livez (which asks nothing of anybody).

    It is asked at the port that it reports, by whoever runs on the same machine; elsewhere its reports have to do.
    """
    now = timezone.now()
    states = by_role(_LOOK_BACK)
    role = "up" if settings.EMBEDDED else "web"
    rows = states[role].alive
    if not rows:
        lost = missing_roles(states, now)[0]
        if role == "up" or role not in lost or control_plane_started(states) is None:
            return CheckOutcome("skip", "No web server is expected to answer now; another check tells of it.")
        about = _about(states[role], now)
        sentence = f"There is no web server any more. {about[0]} Neither people nor the homeserver reach Switchboard: start it."
        missing = (Affected("role:web", *about),)
        return CheckOutcome("fail", sentence, _evidence(states, [role]), missing, Fix("service.restart", "role:web"))
    asked = [row for row in rows if row.ready_after_seconds is not None and row.ports and row.boot_id == boot_id()]
    silent = [(row, problem) for row in asked if (problem := ask_livez(row))]
    evidence = {"web_servers": len(rows), "asked": {str(row): livez_address(row) for row in asked}}
    if silent:
        affected = tuple(Affected(f"process:{row.pk}", problem) for row, problem in silent)
        sentence = f"{label(silent[0][0]).capitalize()} runs and does not answer: {silent[0][1]} Restart it."
        return CheckOutcome("fail", sentence, evidence, affected, Fix("service.restart", f"role:{role}"))
    if not asked:
        return CheckOutcome(
            "pass", "The web server reports itself; it runs where it cannot be asked from here.", evidence
        )
    return CheckOutcome(
        "pass", f"{counted(len(asked), 'web server answers', 'web servers answer')} at /livez.", evidence
    )


def livez_address(row: Process) -> str:
    """Where a web server on this machine is asked whether it lives."""
    known = {int(one["port"]): str(one["address"]) for one in row.ports}
    port = settings.PORT if settings.PORT in known else min(known)
    host = known[port]
    host = "127.0.0.1" if host in ("0.0.0.0", "") else "[::1]" if host == "::" else f"[{host}]" if ":" in host else host  # noqa: S104
    return f"http://{host}:{port}/livez"


def ask_livez(row: Process, tries: int = 2, seconds: float = 4.0) -> str:
    """ "" when it answers, else why not."""
    problem = ""
    for _ in range(tries):
        try:
            answer = httpx.get(livez_address(row), timeout=seconds, trust_env=False)
        except httpx.TimeoutException:
            problem = f"no answer within {seconds:g} s."
        except httpx.HTTPError as error:
            problem = f"{type(error).__name__}."
        else:
            if answer.status_code == 200:
                return ""
            problem = f"it answered {answer.status_code}."
    return problem


def _about(state: RoleState, now: datetime) -> tuple[str, dict[str, Any]]:
    """The last words of a role, and evidence."""
    row = max((*state.alive, *state.dead), key=last_sign, default=None)
    if row is None:
        return "It never ran here.", {}
    return _last_words(row, now), {
        "host": row.host,
        "pid": row.pid,
        "version": row.version,
        "seen_at": row.seen_at.isoformat(),
    }


def _last_words(row: Process, now: datetime) -> str:
    when = relative(last_sign(row), now)
    if row.ended_at is None:
        return f"The one on {row.host} (process {row.pid}) was last seen {when} and ended without a word: killed, or crashed."
    return f"The one on {row.host} (process {row.pid}) ended {when}: {row.end_reason or 'no reason given.'}"


def _commands(roles: list[str]) -> dict[str, str]:
    return {role: adapter_for(role_part(role)).command(role_part(role), "start") for role in roles}


def _evidence(states: dict[str, RoleState], roles: list[str]) -> dict[str, Any]:
    return {
        "missing": sorted(set(roles)),
        "running": {role: len(state.alive) for role, state in states.items() if state.alive},
        "manager": settings.PROCESS_MANAGER,
        "commands": _commands(sorted(set(roles))),
    }
