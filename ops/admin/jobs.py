"""Jobs: long actions, with a page that updates itself until the job is over."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import URLPattern, path, reverse
from unfold.decorators import display

from ops import html
from ops.admin.base import Deed, OperatorAdmin, actor_of
from ops.job_kinds import get_job_kind
from ops.models import Job
from ops.services.jobs import job_cancel

LINES_ON_PAGE = 500


@admin.register(Job)
class JobAdmin(OperatorAdmin):
    list_display = ("title", "state_lamp", "progress", "actor", "started", "took")
    list_filter = ("state", "kind", "trigger")
    search_fields = ("id", "title", "actor", "error")
    list_per_page = 50
    detail_template = "switchboard/job.html"
    intro = "Long actions: what they are doing, what they did, and who asked for them."
    empty_title = "No job has run yet"
    empty_text = (
        "A sync that you start, or an account that you put back on the homeserver, appears here with its progress."
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).defer("result", "params")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.live_view)
        strip = self.admin_site.admin_view(self.strip_view)
        return [
            path("<path:object_id>/live/", view, name="ops_job_live"),
            path("<uuid:object_id>/strip/", strip, name="ops_job_strip"),
            *super().get_urls(),
        ]

    @display(description="State", ordering="state")
    def state_lamp(self, row: Job) -> str:
        return html.lamp(row.lamp, row.get_state_display())

    @display(description="Progress")
    def progress(self, row: Job) -> str:
        return "" if row.percent is None else f"{row.percent} %"

    @display(description="Started", ordering="created_at")
    def started(self, row: Job) -> str:
        return html.ago(row.started_at or row.created_at)

    @display(description="Took")
    def took(self, row: Job) -> str:
        if not row.started_at or not row.finished_at:
            return ""
        return html.duration((row.finished_at - row.started_at).total_seconds() * 1000)

    def deeds(self) -> tuple[Deed, ...]:
        return (
            Deed(
                "cancel",
                "Cancel the job",
                self.cancel,
                explain=explain_cancel,
                danger=True,
                shown=lambda job: not job.is_final and not job.cancel_requested,
            ),
        )

    def cancel(self, request: HttpRequest, row: Job) -> str:
        return (
            "The job is asked to stop."
            if job_cancel(job=row, actor=actor_of(request))
            else "The job had ended already."
        )

    def live_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The part of the page that is fetched again and again; it asks for no more once the job is over."""
        row = self._row(request, object_id)
        return render(request, "switchboard/job_live.html", self.live_context(row))

    def strip_view(self, request: HttpRequest, object_id: Any) -> HttpResponse:
        """How far a job is, in two lines: for pages of other things that wait for it."""
        row = self._row(request, str(object_id))
        return render(request, "switchboard/job_strip.html", {"job": row, "live": strip_address(row)})

    def live_context(self, row: Job) -> dict[str, Any]:
        """State, log and result of the job."""
        lines = list(row.lines.order_by("-id")[:LINES_ON_PAGE])[::-1]
        took = None
        if row.started_at and row.finished_at:
            took = (row.finished_at - row.started_at).total_seconds() * 1000
        return {
            "job": row,
            "lines": [(line, html.lamp(_level(line.level), line.get_level_display())) for line in lines],
            "live": "" if row.is_final else reverse("admin:ops_job_live", args=[row.pk]),
            "took": took,
            "result": row.result if isinstance(row.result, dict) else {},
        }

    def detail_context(self, request: HttpRequest, row: Job) -> dict[str, Any]:
        return self.live_context(row)


def explain_cancel(job: Job) -> str:
    """What cancelling means for a job of its kind."""
    known = get_job_kind(job.kind)
    if known is not None and known.stopping:
        return (
            f"A job that waits ends at once. This one runs: {known.stopping}"
            if job.started_at
            else "It ends at once; it has not begun yet."
        )
    return "A job that waits ends at once; one that runs stops after the step it is in. What is done stays done, and a new job goes on from there."


def strip_address(job: Job | None) -> str:
    """Where ``switchboard/job_strip.html`` is fetched again while the job goes on; "" once it is over."""
    return "" if job is None or job.is_final else reverse("admin:ops_job_strip", args=[job.pk])


def _level(level: str) -> str:
    return {"debug": "off", "info": "good", "warning": "attention", "error": "trouble"}.get(level, "off")
