"""The audit log: who did what, when, to what. Only read here."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib import admin
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from unfold.decorators import display

from ops import html
from ops.admin.base import OperatorAdmin
from ops.models import AuditEvent


class ActionFilter(admin.SimpleListFilter):
    """Actions by their first word (``agent``, ``service``, …): the words themselves come from the newest events."""

    title = "about"
    parameter_name = "about"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        recent = AuditEvent.objects.order_by("-id").values_list("action", flat=True)[:2000]
        words = sorted({action.partition(".")[0] for action in recent})
        return [(word, word) for word in words]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(action__startswith=f"{self.value()}.") if self.value() else queryset


class ActorFilter(admin.SimpleListFilter):
    """Who did it: a person, a token, a command, or Switchboard by itself."""

    title = "actor"
    parameter_name = "actor"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        recent = AuditEvent.objects.order_by("-id").values_list("actor", flat=True)[:2000]
        return [(actor, actor) for actor in sorted(set(recent))[:50]]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(actor=self.value()) if self.value() else queryset


@admin.register(AuditEvent)
class AuditEventAdmin(OperatorAdmin):
    list_display = ("action", "target_label", "actor", "when", "message")
    list_filter = (ActionFilter, ActorFilter, "target_type")
    search_fields = ("action", "actor", "target_label", "target_id", "message", "request_id")
    detail_template = "switchboard/audit.html"
    intro = "Everything that was changed, by whom. Events are only ever added; nobody can change or delete one."
    empty_title = "Nothing was done yet"
    empty_text = "Every change that a person, a token, a command or Switchboard itself makes is written down here."

    @display(description="When", ordering="id")
    def when(self, row: AuditEvent) -> str:
        return html.ago(row.at)

    def detail_context(self, request: HttpRequest, row: AuditEvent) -> dict[str, Any]:
        before, after = row.before or {}, row.after or {}
        names = list(dict.fromkeys([*before, *after]))
        return {
            "differences": [(name, before.get(name), after.get(name), name in before, name in after) for name in names],
            "target_address": _address(row),
        }


def _address(row: AuditEvent) -> str:
    app, _, model = row.target_type.partition(".")
    if not model or not row.target_id or not apps.is_installed(app):
        return ""
    try:
        return reverse(f"admin:{app}_{model}_change", args=[row.target_id])
    except NoReverseMatch:
        return ""
