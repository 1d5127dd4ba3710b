"""The page of one repair before it runs: what it would change, what it asks for, and the button that does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import reverse

from ops.admin.base import actor_of
from ops.admin.issue_cards import Card, Thing, card_of, thing_of
from ops.admin.repair_form import PreviewOld, RepairForm, places_of, seal, unseal
from ops.choices import IssueState
from ops.doctor.planning import Planned
from ops.doctor.queries import offers_of, worst_first
from ops.doctor.repairs import Repair, RepairRefused, get_repair
from ops.doctor.targets import labels_of
from ops.locks import LockHeld
from ops.models import Issue, JobTrigger
from ops.services.repairs import UNDO_WITHIN, repair_plan, repair_start

if TYPE_CHECKING:
    from ops.admin.base import OperatorAdmin

# The rest of a long difference is a number.
CHANGES_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Group:
    """The lines of a difference that are about one object."""

    thing: Thing
    changes: list[dict[str, Any]]


def groups_of(changes: list[dict[str, Any]]) -> list[Group]:
    """A difference by object, in its own order, with the objects' names."""
    by_target: dict[str, list[dict[str, Any]]] = {}
    for change in changes[:CHANGES_SHOWN]:
        by_target.setdefault(str(change.get("target", "")), []).append(change)
    labels = labels_of([target for target in by_target if ":" in target])
    return [Group(thing_of(target, labels), lines) for target, lines in by_target.items()]


def plan_view(pages: OperatorAdmin, request: HttpRequest, repair_id: str) -> HttpResponse:
    """GET shows the plan (or first asks what the repair needs to know), POST plans with the answers or applies."""
    repair = get_repair(repair_id)
    if repair is None:
        raise Http404(f"There is no repair {repair_id}.")
    if request.method not in {"GET", "HEAD", "POST"}:
        return HttpResponseNotAllowed(["GET", "POST"])
    asked = request.POST if request.method == "POST" else request.GET
    issue = _issue(asked.get("issue", ""))
    target = asked.get("target", "")[:200]
    page = _Page(pages, request, repair, issue, target)
    if request.method == "POST" and request.POST.get("do") == "apply":
        return page.apply()
    return page.preview()


class _Page:
    """One request for the page of a repair."""

    def __init__(
        self, pages: OperatorAdmin, request: HttpRequest, repair: Repair, issue: Issue | None, target: str
    ) -> None:
        self.pages, self.request, self.repair, self.issue, self.target = pages, request, repair, issue, target
        self.actor = actor_of(request)
        if issue is None:
            self.issue = _proposing(repair.id, target)

    def preview(self, notice: str = "") -> HttpResponse:
        """The plan with what is known; the form alone while something that is required is not."""
        suggested = self._suggested()
        posted = self.request.method == "POST" and self.request.POST.get("do") == "plan"
        form = RepairForm(self.request.POST if posted else None, repair=self.repair, params=suggested)
        if posted and not form.is_valid():
            return self._show(form, None, "")
        params = form.values() if posted else suggested
        missing = [
            field.label for field in self.repair.fields if field.required and params.get(field.name) in ("", None)
        ]
        if missing and not posted:
            return self._show(form, None, "")
        return self._planned(form, params, notice)

    def apply(self) -> HttpResponse:
        """Do what was shown. When the plan would touch other things by now, it is shown again first."""
        try:
            kept = unseal(self.request.POST.get("sealed", ""), repair_id=self.repair.id, actor=self.actor)
        except PreviewOld as error:
            return self.preview(str(error))
        self.target = str(kept["target"])
        params = kept["params"]
        form = RepairForm(None, repair=self.repair, params=params)
        try:
            planned = self._plan(params)
            if planned.plan.changes and places_of(planned.plan) != kept["places"]:
                notice = "Things have changed since you looked. This is the plan as it is now; nothing was done yet."
                return self._show(form, planned, "", notice=notice, params=params)
            run = repair_start(
                repair_id=self.repair.id,
                target=self.target,
                params=params,
                actor=self.actor,
                trigger=JobTrigger.ADMIN,
                issue=self.issue,
                typed=self.request.POST.get("typed", ""),
            )
        except RepairRefused as error:
            return self._planned(form, params, "", refused=str(error))
        except LockHeld:
            refused = "This repair is running on the same object at this moment. Wait for its receipt."
            return self._planned(form, params, "", refused=refused)
        if run.job_id:
            messages.info(self.request, "It has begun; this page shows how far it is.")
        return HttpResponseRedirect(reverse("admin:ops_repairrun_change", args=[run.pk]))

    def _planned(self, form: RepairForm, params: Mapping[str, Any], notice: str, refused: str = "") -> HttpResponse:
        try:
            planned = self._plan(params)
        except RepairRefused as error:
            return self._show(form, None, str(error), notice=notice)
        return self._show(form, planned, refused, notice=notice, params=params)

    def _plan(self, params: Mapping[str, Any]) -> Planned:
        return repair_plan(repair_id=self.repair.id, target=self.target, params=params, actor=self.actor)

    def _show(
        self,
        form: RepairForm,
        planned: Planned | None,
        refused: str,
        *,
        notice: str = "",
        params: Mapping[str, Any] | None = None,
    ) -> HttpResponse:
        shown = planned.to_dict() if planned is not None else {}
        changes = shown.get("changes", [])
        card: Card | None = card_of(self.issue) if self.issue is not None else None
        return self.pages.page(
            self.request,
            "switchboard/repair_plan.html",
            title=self.repair.title,
            repair=self.repair,
            card=card,
            thing=_named(self.target),
            target=self.target,
            form=form if self.repair.fields else None,
            planned=planned,
            groups=groups_of(changes),
            unshown=max(0, len(planned.plan.changes) - min(len(changes), CHANGES_SHOWN)) if planned else 0,
            sealed=self._seal(planned, params or {}) if planned is not None and planned.plan.changes else "",
            refused=refused,
            notice=notice,
            # A template would call the function itself.
            can_be_undone=self.repair.undo is not None,
            undo_days=UNDO_WITHIN.days,
            danger=planned is not None and bool(planned.confirm_word),
            back=self._back(),
            status=409 if refused and self.request.method == "POST" else 200,
        )

    def _seal(self, planned: Planned, params: Mapping[str, Any]) -> str:
        return seal(repair_id=self.repair.id, target=self.target, params=params, plan=planned.plan, actor=self.actor)

    def _suggested(self) -> dict[str, Any]:
        """What the issue proposes for the form, else the defaults."""
        given = {field.name: field.default for field in self.repair.fields}
        if self.issue is not None:
            for offer in offers_of(self.issue, self.target):
                if offer.repair.id == self.repair.id:
                    given |= {name: value for name, value in offer.params.items() if name in given}
        return given

    def _back(self) -> str:
        if self.issue is not None:
            return reverse("admin:ops_issue_change", args=[self.issue.pk])
        return reverse("admin:ops_repair_catalogue")


def _issue(key: str) -> Issue | None:
    return Issue.objects.filter(pk=int(key)).first() if key.isdigit() and len(key) < 18 else None


def _proposing(repair_id: str, target: str) -> Issue | None:
    """The open issue that proposes this repair for this target: it knows the form's values, and is mended by it."""
    rows = worst_first(Issue.objects.exclude(state=IssueState.RESOLVED).filter(fix__repair=repair_id))
    if target:
        return rows.filter(Q(fix__target=target) | Q(affected__target=target)).distinct().first()
    return next((issue for issue in rows[:20] if not (issue.fix or {}).get("target")), None)


def _named(target: str) -> Thing | None:
    return thing_of(target, labels_of([target])) if target else None
