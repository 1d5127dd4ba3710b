"""The log can be searched, knows its errors, and a support bundle can be made."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django.utils import timezone

from ops import disk_guard
from ops.live import live
from ops.logbook import reader
from ops.logbook.keeper import Keeper
from ops.logbook.levels import KEEP_KEY
from ops.logbook.signatures import Dictionary, Group, groups_since
from ops.logbook.status import LATE, LogbookStatus, statuses
from ops.models import LogLine, Process
from ops.processes.queries import is_alive
from ops.redaction import HIDDEN, redact_event
from ops.registry import CheckOutcome, Fix, register_check
from ops.words import counted, verb

# Lost lines are told of for so long.
DROPS_TOLD_FOR = timedelta(minutes=15)
NEW_ERRORS_WITHIN = timedelta(hours=1)
# Once is chance, twice is a coincidence.
NEW_FROM = 3
_PROBE = "ops.logbook.probe"


@register_check(
    "logs.search",
    title="Log lines are kept and found",
    tags=("logs", "debug"),
    interval=120,
    severity="warning",
    depends_on=("db.reachable",),
    repairs=("logs.resume", "logs.export"),
)
def logs_search() -> CheckOutcome:
    """Writes a line through the same code as every process, finds it by its text, and deletes it again; a secret in it must not be
    readable. Then asks what the logbook of each process says of itself: whether it lives, writes, and loses nothing. Says nothing while the
    disk is short and only errors are kept: that is ``disk.space``'s to tell."""
    evidence: dict[str, Any] = {"kept_from_level": live(KEEP_KEY)}
    if paused := disk_guard.may("logs"):
        return CheckOutcome("skip", paused, evidence)
    trouble = _probe()
    if trouble:
        return CheckOutcome("fail", trouble, evidence)
    known = statuses()
    evidence["processes"] = [_brief(one) for one in known[:20]]
    if live(KEEP_KEY) == "off":
        return CheckOutcome(
            "fail",
            "No log lines are kept: an operator switched it off. What happens now cannot be looked up later. Switch it on again.",
            evidence,
            fix=Fix("logs.resume"),
        )
    silent = _silent(known)
    if silent:
        names = ", ".join(f"{one.role} {one.process}" for one in silent[:3])
        return CheckOutcome(
            "fail",
            f"The logbook of {names} stopped, although the process lives: its lines are on its standard error only. "
            "Restart it.",
            {**evidence, "silent": [one.process for one in silent]},
        )
    paused = next((str(one.facts["paused"]) for one in known if one.works and one.facts.get("paused")), "")
    if paused:
        return CheckOutcome("skip", paused, evidence)
    stuck = [one for one in known if one.works and one.facts.get("trouble")]
    if stuck:
        waits = " They wait in memory." if stuck[0].facts.get("waiting") else ""
        sentence = f"{stuck[0].role} {stuck[0].process} cannot write its log lines: {stuck[0].facts['trouble']}.{waits}"
        return CheckOutcome("warn", sentence, evidence)
    losing = [one for one in known if _dropped_lately(one)]
    if losing:
        count = sum(int(one.facts.get("dropped", 0)) for one in losing)
        return CheckOutcome(
            "warn",
            f"{counted(count, 'log line was', 'log lines were')} not kept: more was said than can be written. Raise the level of the busiest logger.",
            {**evidence, "dropped": count},
        )
    count = sum(one.works for one in known)
    return CheckOutcome(
        "pass",
        f"A line was written and found. {counted(count, 'process keeps its own', 'processes keep theirs')}.",
        evidence,
    )


def _probe() -> str:
    """What is wrong with writing and finding a line, "" when nothing is."""
    mark, canary = f"probe-{uuid.uuid4().hex}", f"canary-{uuid.uuid4().hex}"
    event = {"event": f"logbook probe {mark}", "level": "info", "logger": _PROBE, "password": canary, "agent": mark}
    keeper = Keeper(role="check", process="logs.search")
    keeper.take(redact_event(None, "info", event))
    keeper.flush()
    rows = LogLine.objects.filter(logger=_PROBE)
    try:
        if keeper.kept != 1:
            return f"A log line could not be written: {keeper.trouble or 'the database refused it'}."
        found = list(reader.lines(reader.LogFilter(text=mark, level="info")))
        if len(found) != 1:
            return "A line that was just written is not found by its text."
        if canary in reader.as_jsonl(found[0]) or HIDDEN not in reader.as_jsonl(found[0]):
            return "A password in a log line was kept readable. Do not share logs until this is mended."
        return ""
    finally:
        rows.delete()


def _brief(one: LogbookStatus) -> dict[str, Any]:
    return {
        "process": one.process,
        "role": one.role,
        "said": one.at.isoformat(timespec="seconds"),
        "state": "ended" if one.ended else "late" if one.late else "running",
        **{name: one.facts.get(name) for name in ("kept", "dropped", "unfit", "waiting", "spared")},
    }


def _silent(known: list[LogbookStatus]) -> list[LogbookStatus]:
    late = {one.process: one for one in known if one.late}
    if not late:
        return []
    rows = Process.objects.filter(name__in=late, seen_at__gt=timezone.now() - LATE)
    return [late[row.name] for row in rows if is_alive(row) and row.seen_at - late[row.name].at > LATE]


def _dropped_lately(one: LogbookStatus) -> bool:
    at = str(one.facts.get("dropped_at") or "")
    return bool(at) and at > (timezone.now() - DROPS_TOLD_FOR).isoformat()


@register_check(
    "logs.signatures",
    title="Errors in the log are known ones",
    tags=("logs", "debug"),
    interval=120,
    severity="info",
    timeout=20,
    depends_on=("db.reachable",),
    repairs=("signature.add",),
)
def logs_signatures() -> CheckOutcome:
    """Errors of the last hour that no signature explains, in groups of the same but for names and numbers. Red from three of a kind
    on; an entry of the dictionary that cannot be used is told of as well."""
    dictionary = Dictionary()
    groups = groups_since(NEW_ERRORS_WITHIN, dictionary=dictionary)
    unknown = [one for one in groups if one.signature is None]
    new = [one for one in unknown if one.count >= NEW_FROM]
    broken = [one.pattern for one in dictionary.signatures if one.compiled is None]
    evidence = {
        "signatures": len(dictionary.signatures),
        "known_errors": sum(one.count for one in groups if one.signature is not None),
        "unknown_errors": sum(one.count for one in unknown),
        "new": [_group(one) for one in new[:10]],
        "unusable_patterns": broken[:10],
    }
    if new:
        worst = new[0]
        kinds = counted(len(new), "kind of error is new", "kinds of errors are new")
        return CheckOutcome(
            "fail",
            f"{kinds} in the last hour; the most frequent came {counted(worst.count, 'time')}: {worst.sample[:200]} "
            "Look at its lines; when you know what it means, write that down, so that the next one who sees it knows too.",
            evidence,
            fix=Fix("signature.add", params={"line": str(worst.line_id)}),
        )
    if broken:
        return CheckOutcome(
            "warn",
            f"{len(broken)} of your own signatures cannot be used; correct {verb(len(broken), 'it', 'them')}.",
            evidence,
        )
    return CheckOutcome(
        "pass",
        f"{counted(len(dictionary.signatures), 'known error')}; the last hour brought {evidence['known_errors']} of them and "
        f"{counted(int(str(evidence['unknown_errors'])), 'other')}.",
        evidence,
    )


def _group(one: Group) -> dict[str, Any]:
    return {
        "fingerprint": one.fingerprint,
        "count": one.count,
        "sample": one.sample[:300],
        "line": one.line_id,
        "loggers": sorted(one.loggers),
    }


@register_check(
    "support.bundle",
    title="A support bundle can be made, and holds no secret",
    tags=("logs", "support"),
    interval=21600,
    severity="warning",
    timeout=60,
    depends_on=("db.reachable",),
    repairs=("support.folder", "support.bundle"),
)
def support_bundle() -> CheckOutcome:
    """Makes one in memory with a canary among its secrets, reads it back, and looks whether it could be kept on disk. Red when a part
    fails, when a secret is readable, or when the folder cannot be written."""
    from ops.support.bundle import self_test
    from ops.support.folder import why_unusable

    reason = why_unusable()
    if reason:
        return CheckOutcome("fail", reason, {"folder": reason}, fix=Fix("support.folder"))
    result = self_test()
    evidence = {"files": result.files, "bytes": result.size, "failed_parts": result.failed, "milliseconds": result.ms}
    if result.leaks:
        return CheckOutcome(
            "fail",
            f"A secret would be readable in {', '.join(result.leaks)} of a support bundle; none is handed out until that is mended.",
            {**evidence, "leaks": result.leaks},
        )
    if result.failed:
        return CheckOutcome(
            "warn",
            f"Parts of the support bundle fail: {', '.join(sorted(result.failed))}. The rest is in it.",
            evidence,
        )
    return CheckOutcome(
        "pass",
        f"{counted(len(result.files), 'file')}, {result.size / 1024:.0f} KB, no secret in {verb(len(result.files), 'it', 'them')}.",
        evidence,
    )
