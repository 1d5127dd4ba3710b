"""Many repairs at once: one page lists every change of every plan; one button starts them as a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from ops.admin.base import actor_of
from ops.admin.issue_cards import Card, cards_of
from ops.admin.repair_plan import CHANGES_SHOWN, Group, groups_of
from ops.doctor.planning import Planned
from ops.doctor.queries import Offer, worst_first
from ops.doctor.repairs import RepairRefused
from ops.models import Issue
from ops.services.repair_batch import MOST_AT_ONCE, batch_offer, repair_many
from ops.services.repairs import repair_plan

if TYPE_CHECKING:
    from ops.admin.base import OperatorAdmin


@dataclass(frozen=True, slots=True)
class Line:
    """One issue of the preview: its plan, or why there is none."""

    card: Card
    offer: Offer | None
    planned: Planned | None
    why_not: str = ""

    @property
    def groups(self) -> list[Group]:
        """The difference by object."""
        return groups_of(self.planned.to_dict()["changes"]) if self.planned is not None else []

    @property
    def unshown(self) -> int:
        return max(0, len(self.planned.plan.changes) - CHANGES_SHOWN) if self.planned is not None else 0

    @property
    def runs(self) -> bool:
        return self.planned is not None and bool(self.planned.plan.changes)


def batch_view(pages: OperatorAdmin, request: HttpRequest) -> HttpResponse:
    """GET plans and shows; POST starts the ticked ones."""
    asked = request.POST if request.method == "POST" else request.GET
    keys = [int(key) for key in asked.getlist("issue")[:MOST_AT_ONCE] if key.isdigit()]
    issues = list(worst_first(Issue.objects.filter(pk__in=keys)))
    if not issues:
        messages.warning(request, "Tick at least one issue first.")
        return HttpResponseRedirect(reverse("admin:ops_issue_changelist"))
    if request.method == "POST":
        try:
            job = repair_many(issues=issues, actor=actor_of(request))
        except RepairRefused as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(reverse("admin:ops_issue_changelist"))
        return HttpResponseRedirect(reverse("admin:ops_job_change", args=[job.pk]))
    lines = preview(issues, actor_of(request))
    running = [line for line in lines if line.runs]
    return pages.page(
        request,
        "switchboard/issue_batch.html",
        title="Repair several issues",
        lines=lines,
        running=len(running),
        changes=sum(len(line.planned.plan.changes) for line in running if line.planned is not None),
    )


def preview(issues: list[Issue], actor: str) -> list[Line]:
    """The plan of each issue, one for each place; nothing is changed."""
    found: list[Line] = []
    seen: set[tuple[str, str]] = set()
    for card in cards_of(issues):
        offer = batch_offer(card.issue)
        if offer is None:
            found.append(Line(card, None, None, _why_alone(card)))
            continue
        place = (offer.repair.id, offer.target)
        if place in seen:
            found.append(Line(card, offer, None, "The same repair is on this page already; it mends both."))
            continue
        seen.add(place)
        try:
            planned = repair_plan(repair_id=offer.repair.id, target=offer.target, params=offer.params, actor=actor)
        except RepairRefused as error:
            found.append(Line(card, offer, None, str(error)))
        else:
            why = "" if planned.plan.changes else "There is nothing to change any more; its check will see that."
            found.append(Line(card, offer, planned, why))
    return found


def _why_alone(card: Card) -> str:
    if not card.is_open:
        return "It has been resolved already."
    if card.main is not None:
        return "Its repair removes something or asks for something; it is run from its own page."
    return "It has steps for you to follow." if card.guide else "No button mends it."
