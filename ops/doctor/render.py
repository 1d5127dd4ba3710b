"""The doctor's rows and registrations as plain JSON: for the API, the commands and the support bundle."""

from __future__ import annotations

import inspect
from typing import Any

from ops.doctor import catalogue, queries
from ops.doctor.guides import has_guide
from ops.doctor.repairs import Repair
from ops.doctor.targets import labels_of
from ops.models import Issue, RepairRun
from ops.registry import Check, all_checks, get_check
from ops.services.repairs import why_not_undo


def entry_dict(entry: catalogue.Entry) -> dict[str, Any]:
    """A known failure with its coverage."""
    checks = catalogue.checks_of(entry.id)
    known = catalogue.impossible(entry.id)
    part = catalogue.open_part(entry.id)
    return {
        "number": entry.number,
        "id": entry.id,
        "group": entry.group,
        "severity": entry.severity,
        "symptom": entry.symptom,
        "cause": entry.cause,
        "coverage": catalogue.coverage(entry.id) or "open",
        "because": known.because if known else f"Waits for {part}." if part and not checks else "",
        "checks": [check.id for check in checks],
        "repairs": list(dict.fromkeys(id for check in checks for id in check.repairs)),
    }


def check_dict(check: Check) -> dict[str, Any]:
    """What a check tests, what it needs, what mends it."""
    ids = dict.fromkeys([check.id, *check.covers])
    found = [entry for entry in (catalogue.get_entry(id) for id in ids) if entry is not None]
    return {
        "id": check.id,
        "title": check.title,
        "about": inspect.getdoc(check.function) or check.title,
        "tags": list(check.tags),
        "severity": check.severity,
        "interval": check.interval,
        "timeout": check.timeout,
        "scope": check.scope,
        "live": check.live,
        "depends_on": list(check.depends_on),
        "dependants": [other.id for other in queries.dependants(check.id)],
        "opens_after": check.opens_after,
        "closes_after": check.closes_after,
        "repairs": list(check.repairs),
        "guide": has_guide(check.id),
        "entries": [entry_dict(entry) for entry in found],
    }


def offer_dict(offer: queries.Offer) -> dict[str, Any]:
    """A repair that is proposed for an issue."""
    return {
        "repair": offer.repair.id,
        "title": offer.repair.title,
        "button": offer.repair.button,
        "class": str(offer.repair.repair_class.value),
        "target": offer.target,
        "params": offer.params,
    }


def issue_dict(issue: Issue) -> dict[str, Any]:
    """An issue without its affected objects."""
    check = get_check(issue.check_id)
    offer = queries.offer_of(issue)
    return {
        "id": issue.pk,
        "check": issue.check_id,
        "title": check.title if check else issue.check_id,
        "target": issue.target,
        "state": issue.state,
        "status": issue.status,
        "severity": issue.severity,
        "sentence": issue.sentence,
        "evidence": issue.evidence,
        "affected_count": issue.affected_count,
        "root": issue.root_id,
        "failures": issue.failures,
        "flaps": issue.flaps,
        "opened_at": issue.opened_at,
        "last_failed_at": issue.last_failed_at,
        "passing_since": issue.passing_since,
        "resolved_at": issue.resolved_at,
        "handled_by": issue.handled_by,
        "handled_at": issue.handled_at,
        "note": issue.note,
        "snoozed_until": issue.snoozed_until,
        "fix": offer_dict(offer) if offer else None,
        "guide": has_guide(issue.check_id),
        "url": f"/api/v1/issues/{issue.pk}",
    }


def issue_detail(issue: Issue) -> dict[str, Any]:
    """An issue with its affected objects (as many as are kept), its repairs, and what follows from it."""
    rows = list(issue.affected.all())
    labels = labels_of([row.target for row in rows])
    follows, blocked = queries.dependants_of(issue)
    return {
        **issue_dict(issue),
        "affected": [
            {"target": row.target, "label": labels[row.target], "sentence": row.sentence, "since": row.since}
            for row in rows
        ],
        "repairs": [offer_dict(offer) for offer in queries.offers_of(issue)],
        "dependants": [other.pk for other in follows],
        "blocked": [state.name for state in blocked],
    }


def repair_dict(repair: Repair, automatic: set[str]) -> dict[str, Any]:
    """A registered repair; ``automatic`` are the ids that may run unattended."""
    return {
        "id": repair.id,
        "title": repair.title,
        "class": str(repair.repair_class.value),
        "button": repair.button,
        "explain": repair.explain,
        "fields": [
            {
                "name": field.name,
                "label": field.label,
                "help": field.help,
                "kind": field.kind,
                "required": field.required,
                "secret": field.secret,
                "choices": [list(choice) for choice in field.choices],
                "default": None if field.secret else field.default,
            }
            for field in repair.fields
        ],
        "target_kinds": list(repair.target_kinds),
        "checks": [check.id for check in all_checks() if repair.id in check.repairs],
        "undo": repair.undo is not None,
        "long": repair.long,
        "automatic": repair.id in automatic,
    }


def run_dict(run: RepairRun) -> dict[str, Any]:
    """One run of a repair."""
    return {
        "id": run.pk,
        "repair": run.repair_id,
        "target": run.target,
        "class": run.repair_class,
        "issue": run.issue_id,
        "state": run.state,
        "sentence": run.sentence,
        "changes": run.changes,
        "changes_count": run.changes_count,
        "receipt": run.receipt,
        "checks_before": run.checks_before,
        "checks_after": run.checks_after,
        "error": run.error,
        "actor": run.actor,
        "job": f"/api/v1/jobs/{run.job_id}" if run.job_id else None,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "undo_until": run.undo_until,
        "undoable": not why_not_undo(run),
        "undone_at": run.undone_at,
        "undone_by": run.undone_by,
        "url": f"/api/v1/repair-runs/{run.pk}",
    }
