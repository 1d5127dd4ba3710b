"""``portal.exits_on_start``: the web server starts, and stays. What stood in its way is kept in a file, whatever died."""

from __future__ import annotations

import contextlib
import os
import signal
from datetime import datetime
from typing import Any

from django.utils import timezone

from ops.adapters.local import log_tail
from ops.doctor.faults import register_fault
from ops.doctor_services.faults import end_idle, idle
from ops.doctor_services.loops import failed_starts
from ops.doctor_services.waiting import until
from ops.models import Process
from ops.processes.facts import boot_id
from ops.processes.preflight import last_start
from ops.processes.queries import alive, by_role, is_gone, label, last_sign
from ops.redaction import redact_text
from ops.registry import Affected, CheckOutcome, Fix, register_check

WEB_ROLES = ("up", "web")


@register_check(
    "portal.exits_on_start",
    title="The web server starts, and stays",
    tags=("portal", "processes", "web"),
    interval=30,
    severity="critical",
    depends_on=("db.reachable",),
    repairs=("service.preflight",),
)
def exits_on_start() -> CheckOutcome:
    """Red when the last start on this data directory was given up (its reason is kept in a file), or when a web server ended within a
    minute of its start and none has stayed since. Three in a row are ``svc.crash_loop`` as well."""
    now = timezone.now()
    last = last_start()
    evidence: dict[str, Any] = {"last_start": last}
    given_up = _given_up(last)
    if given_up:
        return CheckOutcome("fail", given_up, evidence, fix=Fix("service.preflight"))
    rows = failed_starts(by_role(), now, WEB_ROLES)
    if not rows:
        return CheckOutcome("pass", "The web server started, and stays.", evidence)
    row = rows[0]
    up = (last_sign(row) - row.started_at).total_seconds()
    why = row.end_reason.removeprefix("Error:").strip() or "it ended without a word: killed, or crashed"
    tail = redact_text(log_tail(row.role)) if row.boot_id == boot_id() else ""
    evidence |= {
        "exits": [
            {"process": one.pid, "started_at": one.started_at.isoformat(), "end": one.end_reason or "without a word"}
            for one in rows[:5]
        ],
        **({"log": tail} if tail else {}),
    }
    sentence = f"{label(row).capitalize()} ended {up:.0f} s after it started: {why.rstrip('.')}. Run the preflight: it names what is wrong."
    return CheckOutcome("fail", sentence, evidence, (Affected(f"process:{row.pk}", why),), Fix("service.preflight"))


def _given_up(last: dict[str, Any]) -> str:
    """The last start was given up, and nothing that serves pages has started since."""
    if not last or last.get("ok"):
        return ""
    try:
        at = datetime.fromisoformat(str(last["at"]))
    except (KeyError, ValueError):
        return ""
    if alive(WEB_ROLES):
        return ""
    return f"The last start was given up ({at:%Y-%m-%d %H:%M} UTC, exit code {last.get('exit_code')}): {last.get('sentence')}"


def _dies_at_once() -> dict[str, Any]:
    """A web server that starts and is dead within seconds."""
    memory = idle("--role", "web")
    for row in Process.objects.filter(pk__in=memory["names"]):
        with contextlib.suppress(ProcessLookupError):
            os.kill(row.pid, signal.SIGKILL)
        until(lambda row=row: is_gone(row), 5.0)  # type: ignore[misc]
    return memory


register_fault(
    "portal.exits_on_start",
    title="A web server starts and dies",
    cause=_dies_at_once,
    heal=end_idle,
    evidence=("exits", "last_start"),
)
