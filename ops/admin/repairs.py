"""Repairs: the log of runs with their receipts, all repairs with their switches, and what is known to fail."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import render
from django.urls import URLPattern, path, reverse
from unfold.decorators import display

from ops import html
from ops.admin.base import Deed, OperatorAdmin, actor_of, safe_next
from ops.admin.issue_cards import thing_of, title_of
from ops.admin.panels import Button
from ops.admin.repair_catalogue import catalogue_context, known_context
from ops.admin.repair_plan import groups_of, plan_view
from ops.choices import CheckStatus, RepairRunState
from ops.doctor.queries import issues_about
from ops.doctor.repairs import RepairRefused, get_repair
from ops.doctor.targets import labels_of
from ops.locks import LockHeld
from ops.models import RepairRun
from ops.services.repairs import repair_policy_set, repair_undo, why_not_undo

_OPEN = (RepairRunState.QUEUED, RepairRunState.RUNNING)


@admin.register(RepairRun)
class RepairRunAdmin(OperatorAdmin):
    list_display = ("title", "state_lamp", "target_text", "actor", "when", "took", "sentence")
    list_display_links = ("title",)
    list_filter = ("state", "repair_class")
    search_fields = ("repair_id", "target", "actor", "sentence", "error")
    detail_template = "switchboard/repair_run.html"
    expected_errors = (RepairRefused, LockHeld, ValueError)
    intro = "Every run of a repair with its receipt: what it changed, what the checks said before and after, and how to undo it."
    empty_title = "Nothing was repaired yet"
    empty_text = "Press the button of an issue on the Repairs page; its receipt appears here."

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).defer("params", "snapshot", "changes")

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("plan/<str:repair_id>/", wrap(self.plan), name="ops_repair_plan"),
            path("all/", wrap(self.catalogue_view), name="ops_repair_catalogue"),
            path("known/", wrap(self.known_view), name="ops_known_failures"),
            path("policy/<str:repair_id>/", wrap(self.policy_view), name="ops_repair_policy"),
            path("<path:object_id>/live/", wrap(self.live_view), name="ops_repairrun_live"),
        ]
        return [*own, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        buttons = [
            Button("What is broken", reverse("admin:ops_issue_changelist")),
            Button("All repairs", reverse("admin:ops_repair_catalogue")),
        ]
        return super().changelist_view(request, {"list_buttons": buttons, **(extra_context or {})})

    @display(description="Repair", ordering="repair_id")
    def title(self, row: RepairRun) -> str:
        return repair_title(row)

    @display(description="State", ordering="state")
    def state_lamp(self, row: RepairRun) -> str:
        return html.lamp(row.lamp, row.get_state_display())

    @display(description="Object", ordering="target")
    def target_text(self, row: RepairRun) -> str:
        return row.target or "all affected"

    @display(description="When", ordering="created_at")
    def when(self, row: RepairRun) -> str:
        return html.ago(row.created_at)

    @display(description="Took")
    def took(self, row: RepairRun) -> str:
        return html.duration(milliseconds(row))

    # The plan and the receipt

    def plan(self, request: HttpRequest, repair_id: str) -> HttpResponse:
        """What a repair would do, and the button that does it."""
        self._operators_only(request)
        return plan_view(self, request, repair_id)

    def deeds(self) -> tuple[Deed, ...]:
        return (
            Deed(
                "undo",
                "Undo",
                self.undo,
                explain=lambda run: (
                    "What the repair changed is brought back as it was before, and the checks are asked again. What it mended "
                    "will most likely be broken again."
                ),
                danger=True,
                shown=lambda run: not why_not_undo(run),
                button="Undo…",
            ),
        )

    def offered_deeds(self, row: Any) -> list[dict[str, Any]]:
        """The receipt has its own place for undoing, which follows the run."""
        return []

    def undo(self, request: HttpRequest, row: RepairRun) -> str:
        repair_undo(run=row, actor=actor_of(request))
        return "It is undone: what the repair had changed is as it was before."

    def detail_context(self, request: HttpRequest, row: RepairRun) -> dict[str, Any]:
        return self.live_context(row)

    def live_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The part of the receipt that is fetched again until the run has ended."""
        row = self._row(request, object_id)
        return render(request, "switchboard/repair_live.html", self.live_context(row))

    def live_context(self, row: RepairRun) -> dict[str, Any]:
        """State, difference, checks before and after, and what undoing needs."""
        running = row.state in _OPEN
        repair = get_repair(row.repair_id)
        target = thing_of(row.target, labels_of([row.target])) if row.target else None
        return {
            "run": row,
            "repair": repair,
            "repair_title": repair_title(row),
            "thing": target,
            "groups": groups_of(list(row.changes or [])),
            "unshown": max(0, row.changes_count - len(row.changes or [])),
            "checks": checks_of(row),
            "took": milliseconds(row),
            "can_undo": not why_not_undo(row),
            "why_not_undo": "" if running else why_not_undo(row),
            "undo_address": reverse("admin:ops_repairrun_deed", args=[row.pk, "undo"]),
            "live": reverse("admin:ops_repairrun_live", args=[row.pk]) if running else "",
            "object_is_well": _object_is_well(row),
        }

    def page(
        self, request: HttpRequest, template: str, *, title: str, status: int = 200, **context: Any
    ) -> HttpResponse:
        row = context.get("row")
        if isinstance(row, RepairRun):
            title = f"{title} the repair" if template == "switchboard/confirm.html" else repair_title(row)
            # The header's trail names the repair, not the row's key.
            row.shown_as = repair_title(row)  # type: ignore[attr-defined]
        return super().page(request, template, title=title, status=status, **context)

    # All of them

    def catalogue_view(self, request: HttpRequest) -> HttpResponse:
        """Every repair that there is, with the switch of those that may run by themselves."""
        self._operators_only(request)
        return self.page(request, "switchboard/repairs_all.html", title="All repairs", **catalogue_context(request))

    def known_view(self, request: HttpRequest) -> HttpResponse:
        """Every known failure, and what is done about it."""
        self._operators_only(request)
        return self.page(request, "switchboard/known_failures.html", title="Known failures", **known_context(request))

    def policy_view(self, request: HttpRequest, repair_id: str) -> HttpResponse:
        """Let a repair run by itself, or stop that."""
        self._operators_only(request)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        automatic = request.POST.get("automatic") == "on"
        try:
            repair_policy_set(repair_id=repair_id, automatic=automatic, actor=actor_of(request))
        except (RepairRefused, ValueError) as error:
            messages.error(request, str(error))
        else:
            known = get_repair(repair_id)
            name = known.title if known is not None else repair_id
            how = "runs by itself from now on, as soon as its check fails" if automatic else "waits for a person again"
            messages.success(request, f"{name}: it {how}.")
        return HttpResponseRedirect(safe_next(request) or reverse("admin:ops_repair_catalogue"))

    def _operators_only(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied


def _object_is_well(run: RepairRun) -> bool:
    """The check is still red, but not because of the object that this run was for."""
    if run.state != RepairRunState.SUCCEEDED or ":" not in run.target or run.issue is None or not run.issue.is_open:
        return False
    return run.issue.check_id not in {issue.check_id for issue in issues_about(run.target)}


def repair_title(run: RepairRun) -> str:
    """The title of the repair, its id when it is not registered (any more)."""
    known = get_repair(run.repair_id)
    return known.title if known is not None else run.repair_id


def milliseconds(run: RepairRun) -> float | None:
    """How long a run took."""
    if run.started_at is None or run.finished_at is None:
        return None
    return (run.finished_at - run.started_at).total_seconds() * 1000


def checks_of(run: RepairRun) -> list[dict[str, str]]:
    """The checks before and after, one line each: ``{title, target, before, after}`` with lamps."""
    before, after = dict(run.checks_before or {}), dict(run.checks_after or {})
    lines = []
    for place in dict.fromkeys([*before, *after]):
        check_id, _, target = place.partition(" ")
        lines.append(
            {
                "title": title_of(check_id),
                "target": target,
                "before": _status(before.get(place)),
                "after": _status(after.get(place)),
            }
        )
    return lines


def _status(word: str | None) -> str:
    if word is None:
        return html.lamp("off", "Not asked")
    if word not in CheckStatus.values:
        return html.lamp("off", word)
    status = CheckStatus(word)
    return html.lamp(status.lamp, status.label)
