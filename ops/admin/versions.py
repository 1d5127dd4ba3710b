"""What it was: the history of single objects, with what each change changed, and the button that brings an earlier state back."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import NoReverseMatch, URLPattern, path, reverse
from unfold.decorators import display

from ops import html
from ops.admin.base import Deed, OperatorAdmin, actor_of
from ops.admin.panels import Panel, register_panel
from ops.history.registry import CannotBringBack, Versioned, versioned, versioned_kinds
from ops.models import ObjectVersion
from ops.redaction import redact
from ops.services.versions import bring_back, difference, label_of_kind, versions_of, with_changes

_ON_PAGE = 20
_ON_PANEL = 5


class KindFilter(admin.SimpleListFilter):
    """By what it is the history of."""

    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(kind.name, kind.label) for kind in versioned_kinds()]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(model=self.value()) if self.value() else queryset


@admin.register(ObjectVersion)
class ObjectVersionAdmin(OperatorAdmin):
    list_display = ("what", "kind", "change", "actor", "when", "note")
    list_display_links = ("what",)
    list_filter = (KindFilter, "deleted")
    search_fields = ("label", "actor", "action", "object_id")
    detail_template = "switchboard/object_version.html"
    expected_errors = (ValidationError, CannotBringBack)
    intro = (
        "What agents, mappings, people, services, settings and memories were after each change. What was deleted is found here too, and each state "
        "can be brought back."
    )
    empty_title = "No history yet"
    empty_text = "Each change that somebody makes to an agent, a person, a service or a setting is kept here, with what it was before."

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.history_view)
        return [
            path("of/<str:model>/<path:object_id>/", view, name="ops_objectversion_of"),
            *super().get_urls(),
        ]

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).defer("secret")

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> ObjectVersion | None:
        return ObjectVersion.objects.filter(pk=object_id).first() if object_id.isdigit() else None

    @display(description="What", ordering="label")
    def what(self, row: ObjectVersion) -> str:
        return row.label or row.object_id

    @display(description="Kind", ordering="model")
    def kind(self, row: ObjectVersion) -> str:
        return label_of_kind(row.model)

    @display(description="Change")
    def change(self, row: ObjectVersion) -> str:
        return html.lamp("off", "Deleted") if row.deleted else row.action

    @display(description="When", ordering="id")
    def when(self, row: ObjectVersion) -> str:
        return html.ago(row.at)

    @display(description="Note")
    def note(self, row: ObjectVersion) -> str:
        return row.message[:120]

    def deeds(self) -> tuple[Deed, ...]:
        return (Deed("bring_back", "Bring back", self.bring_back),)

    def offered_deeds(self, row: Any) -> list[dict[str, Any]]:
        """The page has its own button, beside what it would change."""
        return []

    def bring_back(self, request: HttpRequest, row: ObjectVersion) -> HttpResponse:
        done = bring_back(version=row, actor=actor_of(request))
        messages.success(request, done.sentence)
        place = address_of_object(row.model, done.object_id)
        return HttpResponseRedirect(place or address_of_history(row.model, done.object_id))

    def detail_context(self, request: HttpRequest, row: ObjectVersion) -> dict[str, Any]:
        differences = difference(row)
        kind = versioned(row.model)
        exists = bool(kind and kind.model is not None and kind.model._default_manager.filter(pk=row.object_id).exists())
        return {
            "differences": differences,
            "real": [one for one in differences if not one.observed],
            "observed": any(one.observed for one in differences),
            "gone": bool(kind and kind.model is not None and not exists),
            "kind_label": label_of_kind(row.model),
            "state": _shown_state(kind, row),
            "secrets": [kind.label_of(name) for name in kind.secret_fields] if kind is not None else [],
            "history": address_of_history(row.model, row.object_id),
        }

    def history_view(self, request: HttpRequest, model: str, object_id: str) -> HttpResponse:
        """All versions of one object, the newest first, a page at a time."""
        kind = versioned(model)
        rows = versions_of(model, object_id)
        before = request.GET.get("before", "")
        page = list((rows.filter(pk__lt=before) if before.isdigit() else rows)[: _ON_PAGE + 1])
        if kind is None and not page:
            raise Http404("Nothing of this kind keeps a history.")
        older = page[_ON_PAGE - 1].pk if len(page) > _ON_PAGE else None
        page = page[:_ON_PAGE]
        newest = page[0] if page and not before else None
        label = page[0].label if page else _label_of(kind, object_id)
        back = address_of_object(model, object_id)
        return self.page(
            request,
            "switchboard/object_history.html",
            title=f"What {label} was",
            label=label,
            kind_label=label_of_kind(model),
            versions=[
                (row, changes, newest is not None and row.pk == newest.pk) for row, changes in with_changes(page)
            ],
            older=older,
            deleted=newest is not None and newest.deleted,
            back="" if newest is not None and newest.deleted else back,
        )


def _shown_state(kind: Versioned | None, row: ObjectVersion) -> dict[str, Any]:
    state = redact(row.state or {})
    return {kind.label_of(name) if kind is not None else name: value for name, value in state.items()}


def _label_of(kind: Versioned | None, object_id: str) -> str:
    if kind is None or kind.model is None:
        return object_id
    try:
        row = kind.model._default_manager.filter(pk=object_id).first()
    except (ValidationError, ValueError):
        row = None
    return str(row) if row is not None else object_id


def address_of_history(model: str, object_id: Any) -> str:
    """The page with all versions of an object."""
    return reverse("admin:ops_objectversion_of", args=[model, object_id])


def address_of_object(model: str, object_id: str) -> str:
    """The object's own page; "" where it has none, or is gone."""
    try:
        found = apps.get_model(model)
        if not found._default_manager.filter(pk=object_id).exists():
            return ""
        return reverse(f"admin:{found._meta.app_label}_{found._meta.model_name}_change", args=[object_id])
    except (LookupError, NoReverseMatch, ValidationError, ValueError):
        return ""


def history_panel(request: HttpRequest, row: Any) -> Panel:
    """On the page of every object that keeps a history: the last changes, and the way to all of them."""
    kind = versioned(row)
    if kind is None:
        return Panel()
    return panel_of(kind.name, row.pk)


def panel_of(model: str, object_id: Any, title: str = "What it was") -> Panel:
    """The panel about one object's history, also for the page of another."""
    context = {
        "versions": list(versions_of(model, object_id)[:_ON_PANEL]),
        "address": address_of_history(model, object_id),
    }
    return Panel(title, "switchboard/version_panel.html", context)


register_panel("", history_panel)
