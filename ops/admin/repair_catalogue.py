"""All repairs with what they mend and how they fared, and all known failures with what covers them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Max
from django.http import HttpRequest

from ops.admin.issue_cards import plan_address
from ops.choices import Lamp, RepairClass, RepairRunState
from ops.doctor import catalogue
from ops.doctor.guides import has_guide
from ops.doctor.queries import automatic_repairs
from ops.doctor.repairs import Repair, all_repairs
from ops.models import CheckState, Issue, RepairRun
from ops.registry import Check, all_checks

# What covers a known failure: lamp, word, what it means.
COVERAGE: dict[str, tuple[Lamp, str, str]] = {
    "repair": (Lamp.GOOD, "Found and mended", "A check finds it; a button mends it."),
    "guide": (Lamp.GOOD, "Found, with steps", "A check finds it; steps for this installation say what to do."),
    "check": (Lamp.ATTENTION, "Found", "A check finds it and says what it means."),
    "impossible": (Lamp.GOOD, "Cannot happen", "The design rules it out; a test proves that."),
    "open": (Lamp.OFF, "Part not built yet", "It concerns a part that is not there yet."),
}
UNCOVERED = (Lamp.TROUBLE, "Not covered", "Nothing finds it yet.")


@dataclass(frozen=True, slots=True)
class Row:
    """One repair on its page."""

    repair: Repair
    checks: list[Check]
    automatic: bool
    may_be_automatic: bool
    address: str
    runs: int
    failed: int
    last: Any


def catalogue_context(request: HttpRequest) -> dict[str, Any]:
    """The repairs by class, with how often each ran."""
    allowed = automatic_repairs()
    mends: dict[str, list[Check]] = {}
    for check in all_checks():
        for id in check.repairs:
            mends.setdefault(id, []).append(check)
    ran: dict[str, dict[str, Any]] = {
        row["repair_id"]: dict(row)
        for row in RepairRun.objects.order_by().values("repair_id").annotate(runs=Count("pk"), last=Max("created_at"))
    }
    failed = dict(
        RepairRun.objects.filter(state__in=[RepairRunState.FAILED, RepairRunState.UNPROVEN])
        .order_by()
        .values_list("repair_id")
        .annotate(count=Count("pk"))
    )
    text = request.GET.get("q", "").strip().lower()[:100]
    rows = [
        Row(
            repair,
            mends.get(repair.id, []),
            repair.id in allowed,
            repair.repair_class is RepairClass.AUTOMATIC and not repair.fields,
            plan_address(repair.id),
            ran.get(repair.id, {}).get("runs", 0),
            failed.get(repair.id, 0),
            ran.get(repair.id, {}).get("last"),
        )
        for repair in all_repairs()
        if not text or text in f"{repair.id} {repair.title} {repair.explain}".lower()
    ]
    order = [RepairClass.AUTOMATIC, RepairClass.CONFIRM, RepairClass.DESTRUCTIVE]
    groups = [(kind, [row for row in rows if row.repair.repair_class is kind]) for kind in order]
    return {
        "groups": [(kind, found) for kind, found in groups if found],
        "count": len(rows),
        "automatic": sum(row.automatic for row in rows),
        "text": request.GET.get("q", "").strip()[:100],
        "recent": list(RepairRun.objects.defer("params", "snapshot", "changes")[:10]),
    }


def known_context(request: HttpRequest) -> dict[str, Any]:
    """The entries of the catalogue by group, each with its coverage and how it stands now."""
    text = request.GET.get("q", "").strip()[:100]
    only = request.GET.get("show", "")
    states = worst_states()
    issues = {issue.check_id: issue for issue in Issue.objects.exclude(state="resolved").defer("evidence", "fix")}
    counts = dict.fromkeys([*COVERAGE, "none"], 0)
    groups: dict[str, list[dict[str, Any]]] = {}
    for entry in catalogue.entries():
        covered = catalogue.coverage(entry.id)
        counts[covered or "none"] += 1
        if only and only != (covered or "none"):
            continue
        if text and text.lower() not in f"{entry.number} {entry.id} {entry.symptom} {entry.cause}".lower():
            continue
        groups.setdefault(entry.group, []).append(_entry(entry, covered, states, issues))
    titles = catalogue.groups()
    return {
        "groups": [(letter, titles.get(letter, letter), found) for letter, found in groups.items()],
        "total": len(catalogue.entries()),
        "counts": [(key, COVERAGE.get(key, UNCOVERED), count) for key, count in counts.items() if count],
        "only": only,
        "text": text,
    }


def worst_states() -> dict[str, CheckState]:
    """The worst state of each check over its targets."""
    rank = ("skip", "pass", "blocked", "warn", "fail")
    found: dict[str, CheckState] = {}
    for state in CheckState.objects.defer("evidence"):
        known = found.get(state.check_id)
        if known is None or rank.index(state.status) > rank.index(known.status):
            found[state.check_id] = state
    return found


def _entry(
    entry: catalogue.Entry, covered: str | None, states: dict[str, CheckState], issues: dict[str, Issue]
) -> dict[str, Any]:
    checks = catalogue.checks_of(entry.id)
    why = catalogue.impossible(entry.id)
    lamp, word, meaning = COVERAGE[covered] if covered else UNCOVERED
    repairs = list(dict.fromkeys(id for check in checks for id in check.repairs))
    known = {repair.id: repair for repair in all_repairs()}
    return {
        "entry": entry,
        "covered": covered,
        "lamp": lamp,
        "word": word,
        "meaning": meaning,
        "checks": [(check, states.get(check.id)) for check in checks],
        "repairs": [(known[id], plan_address(id)) for id in repairs if id in known],
        "guide": any(has_guide(check.id) for check in checks),
        "because": why.because if why is not None else "",
        "part": catalogue.open_part(entry.id),
        "proofs": catalogue.proofs_of(entry.id),
        "issue": next((issues[check.id] for check in checks if check.id in issues), None),
    }
