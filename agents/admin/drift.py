"""Drift: where the homeserver differs from what the mappings say, what mends it, and what somebody has to decide."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db.models import Prefetch
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from unfold.decorators import display

from agents.admin.common import EXPECTED
from agents.admin.filters import StandingFilter
from agents.models import Drift, Mapping
from ops import html
from ops.admin.base import OperatorAdmin
from ops.admin.panels import Button
from ops.choices import Lamp
from ops.words import counted

SHOWN = 50


def open_drift(path: str = "drifts") -> Prefetch[str]:
    """For lists: the open drift of each row's mapping in one query, as ``open_drifts`` of the mapping."""
    rows = Drift.objects.filter(mended_at=None).order_by("mends", "-found_at").defer("detail")
    return Prefetch(path, queryset=rows, to_attr="open_drifts")


def drift_word(mapping: Mapping | None) -> str:
    """``2 differences`` with a lamp, "" when there is none; asks nothing where ``open_drift`` was asked along."""
    found: list[Drift] = getattr(mapping, "open_drifts", [])
    if not found:
        return ""
    lamp = Lamp.ATTENTION if all(one.mends for one in found) else Lamp.TROUBLE
    word = found[0].get_kind_display() if len(found) == 1 else counted(len(found), "difference")
    return html.lamp(lamp, word)


def drift_state(row: Drift) -> tuple[Lamp, str]:
    """Lamp and word for one difference."""
    if row.mended_at is not None:
        return Lamp.OFF, "Mended"
    if not row.mends:
        return Lamp.TROUBLE, "Needs a decision"
    return (Lamp.ATTENTION, "Not mended yet") if row.error else (Lamp.WORKING, "The next sync mends it")


def sides(detail: dict[str, Any]) -> list[dict[str, Any]]:
    """``{"stored": …, "found": …}`` as lines to compare: one for each key of objects, one for plain values."""
    stored, found = detail.get("stored"), detail.get("found")
    if isinstance(stored, dict) or isinstance(found, dict):
        left, right = stored if isinstance(stored, dict) else {}, found if isinstance(found, dict) else {}
        return [_line(key, left.get(key), right.get(key)) for key in dict.fromkeys([*left, *right])]
    return [_line("", stored, found)] if stored is not None or found is not None else []


def _line(key: str, stored: Any, found: Any) -> dict[str, Any]:
    return {"key": key, "stored": _text(stored), "found": _text(found), "same": stored == found}


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def drift_lines(rows: Iterable[Drift]) -> list[dict[str, Any]]:
    """What ``drift_lines.html`` shows of each difference."""
    lines = []
    for row in rows:
        lamp, word = drift_state(row)
        lines.append({"row": row, "lamp": lamp, "word": word, "sides": sides(row.detail)})
    return lines


@admin.register(Drift)
class DriftAdmin(OperatorAdmin):
    list_display = ("what", "state_lamp", "whose", "sentence", "found", "seen")
    list_filter = (StandingFilter, "kind")
    list_select_related = ("mapping__agent", "mapping__account", "homeserver")
    search_fields = ("sentence", "key", "mapping__agent__name", "mapping__account__user_id")
    search_help_text = "Agent, Matrix id, room id or words of the sentence"
    ordering = ("-found_at", "-id")
    detail_template = "switchboard/drift.html"
    expected_errors = EXPECTED
    intro = "Where the homeserver differs from the mappings. Each sync looks, mends what it may, and leaves to you what is a decision."
    empty_title = "Everything is in step"
    empty_text = "Each sync compares accounts, rooms and the space with the mappings. What differs appears here until it is mended."

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        buttons = [Button("Look at the plan…", reverse("admin:agents_syncrun_plan"), primary=True)]
        return super().changelist_view(request, {"list_buttons": buttons, **(extra_context or {})})

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request)
        match = request.resolver_match
        return rows.defer("detail") if match is not None and str(match.url_name).endswith("changelist") else rows

    @display(description="What differs", ordering="kind")
    def what(self, row: Drift) -> str:
        return row.get_kind_display()

    @display(description="State", ordering="mends")
    def state_lamp(self, row: Drift) -> str:
        return html.lamp(*drift_state(row))

    @display(description="Agent", ordering="mapping__agent__name")
    def whose(self, row: Drift) -> str:
        if row.mapping is None:
            return html.quiet("the space")
        return html.link(reverse("admin:agents_agent_change", args=[row.mapping.agent_id]), row.mapping.agent)

    @display(description="Found", ordering="found_at")
    def found(self, row: Drift) -> str:
        return html.ago(row.found_at)

    @display(description="Last seen", ordering="seen_at")
    def seen(self, row: Drift) -> str:
        return html.ago(row.mended_at or row.seen_at)

    def detail_context(self, request: HttpRequest, row: Drift) -> dict[str, Any]:
        lamp, word = drift_state(row)
        others = Drift.objects.filter(mapping=row.mapping, homeserver=row.homeserver).exclude(pk=row.pk)
        return {
            "lamp_state": lamp,
            "word": word,
            "sides": sides(row.detail),
            "others": [(one, *drift_state(one)) for one in others.order_by("mended_at", "-found_at")[:SHOWN]],
        }
