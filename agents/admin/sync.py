"""Sync: what it would do, what it did, and the question it asks when a plan looks like a mistake."""

from __future__ import annotations

from functools import partial
from itertools import groupby
from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from unfold.decorators import display

from agents.admin.common import EXPECTED
from agents.admin.restore import restore_view
from agents.models import DriftKind, SyncRun, SyncState
from agents.services.backends import backend_services
from agents.services.sync import SyncReport, UnknownService, sync_agents
from agents.sync.drift import STEP
from agents.sync.drift_plan import LOST as HOMESERVER_LOST
from agents.sync.steps import Step
from agents.sync.stops import HOMESERVER_EMPTY, STATE_LOST
from ops import html
from ops.admin.base import OperatorAdmin, actor_of
from ops.admin.panels import Button
from ops.models import JobTrigger
from ops.services.jobs import job_start
from ops.words import counted

LAMPS = {
    SyncState.RUNNING: "working",
    SyncState.DONE: "good",
    SyncState.STOPPED: "attention",
    SyncState.FAILED: "trouble",
}
STEPS_SHOWN = 300
SUSPICIOUS = "sync.suspicious"
# Findings with which a plan stops and asks.
EMPTIED = frozenset({HOMESERVER_EMPTY, HOMESERVER_LOST})
STOPS = {SUSPICIOUS, STATE_LOST, *EMPTIED}
# What an operator types before a plan is applied that has stopped, and what the job is then called.
WORDS = {
    "archive": ", also archive what is gone",
    "again": ", make everything again on the homeserver",
    "new": ", make new rooms",
}


@admin.register(SyncRun)
class SyncRunAdmin(OperatorAdmin):
    list_display = ("number", "state_lamp", "what", "trigger", "actor", "started", "took")
    list_filter = ("state", "trigger")
    search_fields = ("actor", "service_name", "error")
    detail_template = "switchboard/sync_run.html"
    expected_errors = (UnknownService, *EXPECTED)
    intro = "Passes that compare the lists of agents with the accounts and rooms. Those that changed nothing are forgotten after an hour."
    empty_title = "No sync has run yet"
    empty_text = "The first one runs as soon as a worker is there. You can also look at its plan and start it yourself."

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.plan_view)
        restore = self.admin_site.admin_view(partial(restore_view, self))
        own = [path("plan/", view, name="agents_syncrun_plan"), path("restore/", restore, name="homeserver_restore")]
        return [*own, *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request)
        match = request.resolver_match
        return rows.defer("plan") if match is not None and str(match.url_name).endswith("changelist") else rows

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        buttons = [
            Button("Sync now…", reverse("admin:agents_syncrun_plan"), primary=True),
            Button("After a loss…", reverse("admin:homeserver_restore")),
        ]
        return super().changelist_view(request, {"list_buttons": buttons, **(extra_context or {})})

    @display(description="Sync", ordering="id")
    def number(self, row: SyncRun) -> str:
        return f"Sync {row.pk}"

    @display(description="State", ordering="state")
    def state_lamp(self, row: SyncRun) -> str:
        return html.lamp(LAMPS[SyncState(row.state)], row.get_state_display())

    @display(description="What it did")
    def what(self, row: SyncRun) -> str:
        return summary(row.counts) or (counted(len(row.findings), "finding") if row.findings else "nothing to do")

    @display(description="Started", ordering="id")
    def started(self, row: SyncRun) -> str:
        return html.ago(row.started_at)

    @display(description="Took")
    def took(self, row: SyncRun) -> str:
        return html.duration((row.finished_at - row.started_at).total_seconds() * 1000) if row.finished_at else ""

    def detail_context(self, request: HttpRequest, row: SyncRun) -> dict[str, Any]:
        stopped = [finding for finding in row.findings if finding.get("code") in STOPS]
        return {
            "lamp_state": LAMPS[SyncState(row.state)],
            "summary": summary(row.counts),
            "compared": compared(row.looked),
            "steps": [
                (words(step), step.get("agent", "")) for step in row.plan[:STEPS_SHOWN] if isinstance(step, dict)
            ],
            "more": max(0, len(row.plan) - STEPS_SHOWN),
            "stopped": stopped,
            "other_findings": [finding for finding in row.findings if finding not in stopped],
        }

    def plan_view(self, request: HttpRequest) -> HttpResponse:
        """GET shows what a sync would do now; POST starts it as a job."""
        service = request.POST.get("service", "") or request.GET.get("service", "")
        if request.method == "POST":
            return self._start(request, service, force=request.POST.get("force") == "yes")
        report: SyncReport | None = None
        forced: SyncReport | None = None
        problem = ""
        try:
            report = sync_agents(actor=actor_of(request), trigger="admin", service_name=service, dry_run=True)
            if report.plan.stopped:
                forced = sync_agents(actor=actor_of(request), service_name=service, dry_run=True, force=True)
        except self.expected_errors as error:
            problem = str(getattr(error, "sentence", "") or getattr(error, "reason", "") or error)
        gone = _gone(forced) if forced else []
        stopped = [one for one in report.findings if one.code in STOPS] if report else []
        codes = {one.code for one in stopped}
        return self.page(
            request,
            "switchboard/sync_plan.html",
            title="Sync now",
            report=report,
            problem=problem,
            service=service,
            services=backend_services(),
            groups=_groups(report) if report else [],
            total=len(report.plan.steps) if report else 0,
            gone=gone,
            findings=[one for one in report.findings if one.code not in STOPS] if report else [],
            stopped=stopped,
            lost=STATE_LOST in codes,
            emptied=bool(EMPTIED & codes),
            word=_word(codes, gone),
            forced_total=len(forced.plan.steps) if forced else 0,
        )

    def _start(self, request: HttpRequest, service: str, *, force: bool) -> HttpResponse:
        word = request.POST.get("word", "archive")
        if force and (word not in WORDS or request.POST.get("confirm", "").strip().lower() != word):
            messages.error(request, f"Nothing was started: type the word {word} to apply the plan anyway.")
            return HttpResponseRedirect(
                reverse("admin:agents_syncrun_plan") + (f"?service={service}" if service else "")
            )
        job = job_start(
            kind="agents.sync",
            title=f"Sync agents{' of ' + service if service else ''}{WORDS[word] if force else ''}",
            actor=actor_of(request),
            trigger=JobTrigger.ADMIN,
            params={"service": service, "force": force},
            once=True,
        )
        return HttpResponseRedirect(reverse("admin:ops_job_change", args=[job.pk]))


_NOUNS = {
    "agent.create": "taken up", "agent.update": "updated", "agent.miss": "missing", "agent.archive": "archived",
    "agent.return": "returned", "mapping.create": "reserved", "account.register": "accounts", "account.profile": "profiles",
    "room.create": "rooms", "room.describe": "rooms described", "space.create": "space", "space.add": "added to the space",
    "space.remove": "taken out of the space", "invite": "invitations",
}  # fmt: skip
_SINGULAR = {
    "accounts": "account", "profiles": "profile", "rooms": "room", "rooms described": "room described",
    "invitations": "invitation",
}  # fmt: skip


def summary(counts: dict[str, int]) -> str:
    """``3 taken up, 3 accounts, 3 rooms``."""
    return ", ".join(_said(count, _noun(kind)) for kind, count in counts.items())


def _noun(kind: str) -> str:
    """What is counted; of what had drifted its name: ``mended (room was upgraded)``."""
    drifted = kind.removeprefix(STEP)
    if kind != drifted and drifted in DriftKind.values:
        return f"mended ({str(DriftKind(drifted).label).lower()})"
    return _NOUNS.get(kind, kind)


def compared(looked: dict[str, Any]) -> str:
    """What a pass compared with the homeserver, "" when nothing."""
    if not looked.get("mappings"):
        return ""
    return (
        f"{counted(looked['mappings'], 'mapping was', 'mappings were')} compared with the homeserver: "
        f"{counted(looked.get('found', 0), 'difference')}, {looked.get('mended', 0):,} mended, {looked.get('open', 0):,} open."
    )


def _said(count: int, noun: str) -> str:
    """Most kinds are told as what was done (``taken up``), which has one form; the others as what was made."""
    one = _SINGULAR.get(noun)
    return counted(count, one, noun) if one else f"{count:,} {noun}"


def words(step: dict[str, Any]) -> str:
    """The sentence of a stored step."""
    detail = {key: value for key, value in step.items() if key not in {"kind", "agent"}}
    return Step(str(step.get("kind", "")), "", str(step.get("agent", "")), detail).sentence


def _groups(report: SyncReport) -> list[dict[str, Any]]:
    """The plan's steps by agent, the first of them; sorting keeps the order within an agent."""
    steps = report.plan.steps[:STEPS_SHOWN]
    return [
        {"label": steps_of[0].label, "steps": [step.sentence for step in steps_of]}
        for _, found in groupby(steps, key=lambda step: step.key)
        if (steps_of := list(found))
    ]


def _word(codes: set[str], gone: list[str]) -> str:
    """What has to be typed: for the most that would be done."""
    if gone:
        return "archive"
    return "again" if EMPTIED & codes else "new"


def _gone(report: SyncReport) -> list[str]:
    return [step.label for step in report.plan.steps if step.kind in {"agent.archive", "agent.miss"}]
