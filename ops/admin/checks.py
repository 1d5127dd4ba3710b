"""Checks: a board of what is well and what is not, each with its history."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import URLPattern, path
from unfold.decorators import display

from ops import html
from ops.admin.base import OperatorAdmin
from ops.admin.board import board_live_view, board_view
from ops.admin.panels import panels_of
from ops.choices import lamp_for
from ops.models import CheckResult, CheckState
from ops.registry import get_check

HISTORY = 100


@admin.register(CheckState)
class CheckStateAdmin(OperatorAdmin):
    list_display = ("title", "state_lamp", "sentence", "since_when", "checked")
    list_display_links = ("title",)
    list_filter = ("status",)
    search_fields = ("check_id", "target", "sentence")
    ordering = ("check_id", "target")
    detail_template = "switchboard/check.html"
    intro = (
        "Each check tests one thing again and again. What fails becomes an issue on the Repairs page until it passes."
    )
    empty_title = "No check has run yet"
    empty_text = "Checks run by themselves as soon as a worker is there; within a minute this board fills."

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("board/", wrap(board_view), name="board"),
            path("board/live/", wrap(board_live_view), name="board_live"),
        ]
        return [*own, *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> Any:
        from django.db.models import Case, IntegerField, Value, When

        worst_first = Case(
            *[When(status=status, then=Value(rank)) for rank, status in enumerate(("fail", "blocked", "warn", "pass"))],
            default=Value(9),
            output_field=IntegerField(),
        )
        return CheckState.objects.annotate(rank=worst_first)

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        return ("rank", "check_id", "target")

    @display(description="Check", ordering="check_id")
    def title(self, row: CheckState) -> str:
        known = get_check(row.check_id)
        name = known.title if known else row.check_id
        return f"{name} ({row.target})" if row.target else name

    @display(description="State", ordering="rank")
    def state_lamp(self, row: CheckState) -> str:
        return html.lamp(row.lamp, row.get_status_display())

    @display(description="Since", ordering="since")
    def since_when(self, row: CheckState) -> str:
        return html.ago(row.since)

    @display(description="Checked", ordering="checked_at")
    def checked(self, row: CheckState) -> str:
        return html.ago(row.checked_at)

    def detail_context(self, request: HttpRequest, row: CheckState) -> dict[str, Any]:
        known = get_check(row.check_id)
        history = list(CheckResult.objects.filter(check_id=row.check_id, target=row.target)[:HISTORY])
        return {
            "title": self.title(row),
            "check": known,
            "history": history,
            "changes": [one for one in history if one.changed][:20],
            "strip": [
                {
                    "lamp": lamp_for(_status(one)).value,
                    "text": f"{one.at:%Y-%m-%d %H:%M} UTC: {one.get_status_display()}",
                }
                for one in reversed(history)
            ],
        }

    def page(self, request: HttpRequest, template: str, *, title: str, status: int = 200, **context: Any) -> Any:
        row = context.get("row")
        title = self.title(row) if isinstance(row, CheckState) else title
        return super().page(request, template, title=title, status=status, **context)

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        row = self._row(request, object_id)
        context = self.detail_context(request, row)
        context.pop("title")
        first = [panel for panel in panels_of(request, row) if panel.template and panel.first]
        return self.page(request, self.detail_template, title="", row=row, first_panels=first, **context)


def _status(result: CheckResult) -> str:
    return {"pass": "good", "warn": "attention", "fail": "trouble", "blocked": "attention"}.get(result.status, "off")
