"""The status board: each part of the installation with its lamp, its history, and what hangs on it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.response import TemplateResponse
from django.urls import reverse

from ops import html
from ops.admin.base import is_operator
from ops.admin.issue_cards import address_of_issue, title_of
from ops.board import Component, board, window_of
from ops.choices import CheckStatus, Lamp
from ops.registry import get_check
from ops.strips import bars_of, percent, sparkline
from ops.uptime import WINDOWS, Window
from ops.words import counted, verb

LIVE_EVERY = 10_000


def board_view(request: HttpRequest) -> HttpResponse:
    """The whole page."""
    if not is_operator(request):
        raise PermissionDenied
    context = board_context(window_of(request.GET.get("window")))
    return TemplateResponse(
        request, "switchboard/board.html", {**admin.site.each_context(request), "title": "Status board", **context}
    )


def board_live_view(request: HttpRequest) -> HttpResponse:
    """The part of it that is fetched again."""
    if not is_operator(request):
        raise PermissionDenied
    return render(request, "switchboard/board_live.html", board_context(window_of(request.GET.get("window"))))


def board_context(window: Window) -> dict[str, Any]:
    """What the templates show."""
    found = board(window)
    bad = [one for one in found.components if one.lamp in (Lamp.TROUBLE, Lamp.ATTENTION)]
    return {
        "tiles": [_tile(one, window) for one in found.components],
        "window": window,
        "windows": WINDOWS,
        "processes": found.processes,
        "checked_at": found.checked_at,
        "headline": _headline(found.components, bad),
        "headline_lamp": _worst(found.components),
        "live": f"{reverse('admin:board_live')}?window={window.key}",
        "every": LIVE_EVERY,
    }


def _tile(one: Component, window: Window) -> dict[str, Any]:
    return {
        "one": one,
        "anchor": one.key.replace(":", "-").replace(".", "-"),
        "address": reverse("admin:ops_service_change", args=[one.service.pk]) if one.service is not None else "",
        "bars": bars_of(one.slots, window, one.title),
        "spark": sparkline(one.latency),
        "latency": html.duration(one.latency[-1]) if one.latency else "",
        "shares": [(each, percent(one.shares.get(each.key))) for each in WINDOWS],
        "issues": [(issue, address_of_issue(issue), title_of(issue.check_id)) for issue in one.issues[:5]],
        "more_issues": max(0, len(one.issues) - 5),
        "last_address": address_of_issue(one.last) if one.last is not None else "",
        "checks": _checks(one),
        "shows_needs": one.lamp is not Lamp.GOOD,
    }


def _checks(one: Component) -> list[dict[str, Any]]:
    """The component's checks, those that are not well first."""
    order = [CheckStatus.FAIL, CheckStatus.WARN, CheckStatus.BLOCKED, CheckStatus.PASS, CheckStatus.SKIP]
    states = sorted(one.states, key=lambda state: (order.index(CheckStatus(state.status)), state.check_id))
    return [
        {
            "state": state,
            "title": title_of(state.check_id),
            "about": state.target if one.service is None else "",
            "address": reverse("admin:ops_checkstate_change", args=[state.pk]),
            "known": get_check(state.check_id) is not None,
        }
        for state in states
    ]


def _headline(components: list[Component], bad: list[Component]) -> str:
    asked = [one for one in components if one.lamp is not Lamp.OFF]
    if not asked:
        return "Nothing has been checked yet."
    if not bad:
        return f"All {len(asked)} parts are well." if len(asked) > 1 else "It is well."
    roots = [one for one in bad if not one.blocked_by]
    names = ", ".join(one.title for one in (roots or bad)[:3])
    more = len(roots or bad) - 3
    return f"{len(bad)} of {counted(len(asked), 'part')} {verb(len(bad), 'is', 'are')} not well: {names}{f' and {more} more' if more > 0 else ''}."


def _worst(components: list[Component]) -> Lamp:
    lamps = {one.lamp for one in components}
    return next((lamp for lamp in (Lamp.TROUBLE, Lamp.ATTENTION, Lamp.GOOD) if lamp in lamps), Lamp.OFF)
