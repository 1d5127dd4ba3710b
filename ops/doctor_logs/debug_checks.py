"""The tools for looking closely end by themselves and reach every process: levels, search, captures, profiles."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Count
from django.utils import timezone

from ops.live import live_row
from ops.logbook import errands, explorer
from ops.logbook.capture import LONGEST, MOST_EXCHANGES
from ops.logbook.levels import KEY, wanted_levels
from ops.logbook.status import running
from ops.models import Capture, Exchange
from ops.redaction import holds_secret
from ops.registry import CheckOutcome, Fix, register_check
from ops.services.logbook import LONGEST_LEVEL, current_levels
from ops.words import counted, verb

_FOLLOWS_WITHIN = timedelta(seconds=60)
_LOOKED_AT = 300


@register_check(
    "debug.level",
    title="Changed log levels end by themselves",
    tags=("logs", "debug"),
    interval=60,
    severity="info",
    depends_on=("db.reachable",),
    repairs=("debug.set_level",),
)
def debug_level() -> CheckOutcome:
    """Red when a logger was given a level without an end (debug for ever slows everything and buries what matters), or when a process
    that lives does not follow what was set."""
    levels = current_levels()
    evidence = {"levels": levels}
    too_late = (timezone.now() + LONGEST_LEVEL + timedelta(minutes=5)).isoformat()
    endless = sorted(name for name, one in levels.items() if one["until"] is None or one["until"] > too_late)
    if endless:
        names = ", ".join(f"{name} ({levels[name]['level']})" for name in endless)
        return CheckOutcome(
            "fail",
            f"The log level of {names} was changed without an end. It goes on until somebody takes it back: do that, or set it "
            "for an hour.",
            {**evidence, "endless": endless},
            fix=Fix("debug.set_level", params={"logger": endless[0], "level": "ordinary"}),
        )
    row = live_row(KEY)
    settled = row is None or timezone.now() - row.changed_at > _FOLLOWS_WITHIN
    wanted = wanted_levels()
    # One that just ended is taken back with the next report; what has to be followed are those that are on.
    behind = [one for one in running() if wanted and settled and one.facts.get("levels", {}) != wanted]
    if behind:
        return CheckOutcome(
            "warn",
            f"{behind[0].role} {behind[0].process} does not follow the log levels that were set. Restart it if that lasts.",
            {**evidence, "behind": [one.process for one in behind]},
        )
    if levels:
        return CheckOutcome(
            "pass", f"{counted(len(levels), 'logger has', 'loggers have')} another level for a while.", evidence
        )
    return CheckOutcome("pass", "All loggers have their ordinary level.", evidence)


@register_check(
    "debug.explorer",
    title="Whatever is pasted into the search is found",
    tags=("debug",),
    interval=3600,
    severity="info",
    timeout=20,
    depends_on=("db.reachable",),
    repairs=("explorer.include",),
)
def debug_explorer() -> CheckOutcome:
    """Takes the newest id of each kind of object, searches for it as an operator would, and looks whether its page can be
    addressed."""
    evidence: dict[str, object] = {"kinds": [one.kind for one in explorer.finders()]}
    missing = explorer.left_out()
    if missing:
        labels = [one.label for one in explorer.finders() if one.kind in missing]
        return CheckOutcome(
            "fail",
            f"The search leaves out {', '.join(labels) or ', '.join(missing)}: pasting one of their ids finds nothing.",
            {**evidence, "left_out": missing},
            fix=Fix("explorer.include"),
        )
    lost = []
    for finder in explorer.finders():
        sample = finder.sample()
        if sample and not any(found.address for found in finder.find(sample)):
            lost.append(finder.label)
    if lost:
        return CheckOutcome(
            "fail",
            f"The newest of {', '.join(lost)} is not found by its id, or has no page. Report it with a support bundle.",
            {**evidence, "lost": lost},
        )
    return CheckOutcome(
        "pass",
        f"{counted(len(explorer.finders()), 'kind of object is', 'kinds of objects are')} found by their ids.",
        evidence,
    )


@register_check(
    "debug.wire",
    title="Captures of calls end by themselves and hold no secret",
    tags=("debug", "network"),
    interval=60,
    severity="info",
    depends_on=("db.reachable",),
    repairs=("debug.capture_stop", "debug.capture"),
)
def debug_wire() -> CheckOutcome:
    """Red when a capture would go on for longer than an hour, holds more than it may, or holds the value of a known secret."""
    now = timezone.now()
    open_rows = list(Capture.objects.filter(until__gt=now).annotate(count=Count("exchanges")))
    evidence = {"running": len(open_rows), "exchanges": Exchange.objects.count()}
    endless = [row for row in open_rows if row.until > now + LONGEST + timedelta(minutes=5)]
    if endless:
        return CheckOutcome(
            "fail",
            f"{counted(len(endless), 'capture')} of calls would go on until {endless[0].until:%Y-%m-%d %H:%M} UTC. "
            f"{verb(len(endless), 'It costs time and keeps', 'They cost time and keep')} what people say: end {verb(len(endless), 'it', 'them')}.",
            {**evidence, "endless": [str(row.pk) for row in endless]},
            fix=Fix("debug.capture_stop"),
        )
    full = [str(row.pk) for row in open_rows if row.count > MOST_EXCHANGES * 2]
    if full:
        return CheckOutcome(
            "warn",
            "A capture holds more than it may. End it.",
            {**evidence, "full": full},
            fix=Fix("debug.capture_stop"),
        )
    leaking = _leaking()
    if leaking:
        return CheckOutcome(
            "fail",
            "A captured call holds a secret in readable form. Delete the capture, and change the secret if the file was shared.",
            {**evidence, "captures": leaking},
        )
    return CheckOutcome(
        "pass",
        f"{counted(len(open_rows), 'capture runs', 'captures run')}."
        if open_rows
        else "No capture runs: calls cost nothing more.",
        evidence,
    )


def _leaking() -> list[str]:
    rows = Exchange.objects.order_by("-id").values_list(
        "capture_id", "url", "request_headers", "request_body", "response_headers", "response_body", "error"
    )[:_LOOKED_AT]
    found = {
        str(capture) for capture, *parts in rows.iterator(chunk_size=50) if any(holds_secret(str(p)) for p in parts)
    }
    return sorted(found)


@register_check(
    "debug.profile",
    title="Processes do the profiles that are asked of them",
    tags=("debug",),
    interval=60,
    severity="info",
    depends_on=("db.reachable",),
    repairs=("debug.profile_withdraw", "debug.profile"),
)
def debug_profile() -> CheckOutcome:
    """Red when a process was asked for a profile and its time passed without an answer: it has ended, or hangs."""
    open_wishes = errands.unanswered()
    evidence = {"profilable": [f"{one.role} {one.process}" for one in running()], "unanswered": len(open_wishes)}
    if open_wishes:
        processes = sorted({str(value.get("process", "")) for _, value in open_wishes})
        return CheckOutcome(
            "fail",
            f"{', '.join(processes)[:300]} was asked for a profile and did not answer: it has ended, or hangs. Take the wish back and "
            "look at that process.",
            {**evidence, "asked_of": processes, "errands": [errand for errand, _ in open_wishes]},
            fix=Fix("debug.profile_withdraw"),
        )
    return CheckOutcome("pass", f"{counted(len(running()), 'process', 'processes')} can be profiled.", evidence)
