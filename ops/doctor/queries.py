"""Reads about issues and repairs that every surface shares."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db.models import Case, IntegerField, Q, QuerySet, Value, When
from django.utils import timezone

from ops.choices import ASKING_ISSUE_STATES, CheckStatus, IssueState, RepairClass, RepairRunState
from ops.doctor.repairs import Repair, get_repair
from ops.findings import SEVERITIES
from ops.models import CheckState, Issue, RepairPolicy, RepairRun
from ops.registry import Check, all_checks, get_check


@dataclass(frozen=True, slots=True)
class Offer:
    """One repair that would mend an issue, with its target and the form's suggested values."""

    repair: Repair
    target: str = ""
    params: dict[str, Any] = field(default_factory=dict)


def worst_first(rows: QuerySet[Issue]) -> QuerySet[Issue]:
    """Ordered by severity, the longest open one first."""
    rank = Case(
        *[When(severity=name, then=Value(number)) for number, name in enumerate(reversed(SEVERITIES))],
        default=Value(9),
        output_field=IntegerField(),
    )
    return rows.annotate(rank=rank).order_by("rank", "opened_at", "pk")


def asking_issues() -> QuerySet[Issue]:
    """Issues that ask for a hand, worst first: open, acknowledged or being repaired, and not following from another open one."""
    rows = Issue.objects.filter(state__in=ASKING_ISSUE_STATES)
    return worst_first(rows.filter(Q(root=None) | Q(root__state=IssueState.RESOLVED)))


def open_issues() -> QuerySet[Issue]:
    """All issues that are not resolved, worst first."""
    return worst_first(Issue.objects.exclude(state=IssueState.RESOLVED))


def issues_about(target: str) -> list[Issue]:
    """Open issues of this target, or that name it among their affected objects; worst first."""
    bare = target.partition(":")[2] if target.startswith("service:") else target
    rows = Issue.objects.exclude(state=IssueState.RESOLVED).filter(
        Q(target__in=[target, bare]) & ~Q(target="") | Q(affected__target=target)
    )
    return list(worst_first(rows.distinct()))


def offers_of(issue: Issue, target: str = "") -> list[Offer]:
    """The repairs of an issue, the proposed one first. ``target``: one affected object instead of all of them."""
    check = get_check(issue.check_id)
    fix = dict(issue.fix or {})
    found: dict[str, Offer] = {}
    if fix.get("repair"):
        proposed = get_repair(fix["repair"])
        if proposed is not None:
            found[proposed.id] = Offer(proposed, target or fix.get("target", ""), dict(fix.get("params") or {}))
    for id in check.repairs if check is not None else ():
        known = get_repair(id)
        if known is not None and id not in found:
            found[id] = Offer(known, target or issue.target)
    return list(found.values())


def offer_of(issue: Issue, target: str = "") -> Offer | None:
    """The proposed repair of an issue, or None: then there is a guide, or nothing to do but wait."""
    return next(iter(offers_of(issue, target)), None)


def dependants_of(issue: Issue) -> tuple[list[Issue], list[CheckState]]:
    """What follows from an issue: other open issues, and checks that were not asked because of it."""
    check_ids = {check.id for check in dependants(issue.check_id)}
    blocked = CheckState.objects.filter(status=CheckStatus.BLOCKED, check_id__in=check_ids)
    if issue.target:
        blocked = blocked.filter(target=issue.target)
    follows = Issue.objects.filter(root=issue).exclude(state=IssueState.RESOLVED)
    return list(worst_first(follows)), list(blocked[:200])


def dependants(check_id: str) -> list[Check]:
    """Checks that depend on this one, directly or not."""
    found: dict[str, Check] = {}
    for check in all_checks():  # dependencies come first
        if check_id in check.depends_on or any(needed in found for needed in check.depends_on):
            found[check.id] = check
    return list(found.values())


def automatic_repairs() -> set[str]:
    """Ids of repairs that an operator allowed to run unattended."""
    return set(RepairPolicy.objects.filter(automatic=True).values_list("repair_id", flat=True))


def may_run_unattended(repair: Repair, target: str, *, most: int = 3, within: timedelta = timedelta(hours=1)) -> bool:
    """Whether a repair that was turned on may run once more: not if it ran ``most`` times and the issue came back."""
    if repair.repair_class is not RepairClass.AUTOMATIC or repair.fields:
        return False
    ran = RepairRun.objects.filter(
        repair_id=repair.id, target=target, actor="system", created_at__gt=timezone.now() - within
    )
    return ran.exclude(state=RepairRunState.UNNEEDED).count() < most


def affected_by(check_ids: Iterable[str]) -> list[str]:
    """Objects that the open issues of these checks name, without doubles."""
    rows = (
        Issue.objects.exclude(state=IssueState.RESOLVED)
        .filter(check_id__in=list(check_ids))
        .values_list("affected__target", flat=True)
    )
    return list(dict.fromkeys(target for target in rows if target))
