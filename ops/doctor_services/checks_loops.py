"""Starts that come to nothing: again and again, or before what they need was there."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from ops.adapters.local import log_tail
from ops.doctor_services.graph import graph, start_order
from ops.doctor_services.loops import WINDOW, looping
from ops.processes.facts import boot_id
from ops.processes.queries import ROLE_WORDS, START_SECONDS, alive, by_role, label, last_sign
from ops.redaction import redact_text
from ops.registry import Affected, CheckOutcome, Fix, register_check
from ops.words import counted


@register_check(
    "svc.crash_loop",
    title="Nothing starts again and again",
    tags=("start", "processes"),
    interval=30,
    severity="critical",
    depends_on=("db.reachable",),
    repairs=("service.preflight",),
)
def crash_loop() -> CheckOutcome:
    """Red when three starts of a role on one host came to nothing within ten minutes.

    A start comes to nothing when the process is killed, ends with an error, or ends before it got to its work.
    """
    now = timezone.now()
    found = looping(by_role(WINDOW * 2), now)
    if not found:
        return CheckOutcome("pass", "No process starts again and again.")
    affected = []
    evidence = {}
    for (role, host), rows in sorted(found.items()):
        exits = [
            {
                "process": row.pid,
                "started_at": row.started_at.isoformat(),
                "up_seconds": round((last_sign(row) - row.started_at).total_seconds(), 1),
                "ready": row.ready_after_seconds is not None,
                "end": row.end_reason or "ended without a word: killed, or crashed",
            }
            for row in rows[:3]
        ]
        tail = redact_text(log_tail(role)) if rows[0].boot_id == boot_id() else ""
        place = {"starts": len(rows), "exits": exits, **({"log": tail} if tail else {})}
        evidence[f"{role} on {host}"] = place
        sentence = f"The {ROLE_WORDS[role]} on {host} started {counted(len(rows), 'time')} within {WINDOW.seconds // 60} minutes."
        affected.append(Affected(f"process:{rows[0].pk}", sentence, place))
    last = next(iter(evidence.values()))["exits"][0]["end"]  # type: ignore[index]
    sentence = f"{affected[0].sentence} Last it {_lower(str(last))} Run the preflight: it names what is wrong."
    return CheckOutcome("fail", sentence, evidence, tuple(affected), Fix("service.preflight"))


def _lower(text: str) -> str:
    text = text if text.startswith("ended") else f"ended: {text}"
    return text if text.endswith(".") else f"{text}."


@register_check(
    "svc.dependency_order",
    title="Everything that was started is ready",
    tags=("start", "processes"),
    interval=30,
    severity="error",
    depends_on=("db.reachable", "broker.reachable"),
    repairs=("stack.start",),
)
def dependency_order() -> CheckOutcome:
    """Red when a process runs for two minutes, is not ready, and what it needs is there: it started too early and hangs.

    While what it needs is down this check is blocked by that: the root cause alone is told.
    """
    now = timezone.now()
    needs = graph()
    ready: dict[str, float] = {}
    waiting = []
    for row in alive():
        if row.ready_after_seconds is not None:
            ready[row.role] = max(ready.get(row.role, 0.0), round(row.ready_after_seconds, 1))
        elif row.drain_requested_at is None and now - row.started_at > timedelta(seconds=START_SECONDS):
            waiting.append(row)
    evidence = {
        "order": start_order(),
        "needs": {node: list(them) for node, them in needs.items()},
        "ready_after": ready,
    }
    if not waiting:
        return CheckOutcome("pass", "Every process that runs is ready.", evidence)
    affected = tuple(
        Affected(f"process:{row.pk}", f"It started {(now - row.started_at).seconds // 60} min ago and is not ready.")
        for row in waiting
    )
    first = waiting[0]
    wants = ", ".join(needs.get(first.role, ())) or "its dependencies"
    sentence = (
        f"{label(first).capitalize()} is not ready after {(now - first.started_at).total_seconds():.0f} s, though {wants} "
        "answer by now. It started before them and hangs: start it again, in order."
    )
    return CheckOutcome("fail", sentence, evidence, affected, Fix("stack.start"))
