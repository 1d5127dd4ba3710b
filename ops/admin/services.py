"""Services: the outside servers, with a form made from what each registered kind wants to know."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import ProtectedError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from unfold.decorators import display

from ops import html
from ops.admin.base import Deed, OperatorAdmin, actor_of
from ops.admin.panels import Button
from ops.admin.service_form import ServiceForm
from ops.models import ManagedBy, Service, ServiceStatus
from ops.registry import service_kind, service_kinds
from ops.services.services import service_delete, service_save, service_test
from ops.words import counted


@admin.register(Service)
class ServiceAdmin(OperatorAdmin):
    list_display = ("name", "state_lamp", "kind_label", "base_url", "latency", "last_ok", "managed_by")
    list_filter = ("kind", "status", "enabled", "managed_by")
    search_fields = ("name", "base_url")
    detail_template = "switchboard/service.html"
    expected_errors = (ValidationError, ProtectedError)
    intro = "The servers that Switchboard depends on: the Matrix homeserver, and the servers on which agents live."
    empty_title = "No service yet"
    empty_text = "Add the homeserver and a server with agents here, or name them in the environment."

    def get_urls(self) -> list[URLPattern]:
        own = [
            path("add/", self.admin_site.admin_view(self.choose_view), name="ops_service_add"),
            path("add/<slug:kind>/", self.admin_site.admin_view(self.form_view), name="ops_service_new"),
            path("<path:object_id>/edit/", self.admin_site.admin_view(self.form_view), name="ops_service_edit"),
        ]
        return [*own, *super().get_urls()]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request)

    @display(description="State", ordering="status")
    def state_lamp(self, row: Service) -> str:
        return html.lamp(row.lamp, _word(row))

    @display(description="Kind", ordering="kind")
    def kind_label(self, row: Service) -> str:
        known = service_kind(row.kind)
        return known.label if known else row.kind

    @display(description="Latency", ordering="latency_ms")
    def latency(self, row: Service) -> str:
        return html.duration(row.latency_ms)

    @display(description="Last OK", ordering="last_ok_at")
    def last_ok(self, row: Service) -> str:
        return html.ago(row.last_ok_at)

    def deeds(self) -> tuple[Deed, ...]:
        operated = ManagedBy.OPERATOR
        return (
            Deed("test", "Test connection", self.test, primary=True, shown=lambda row: row.enabled),
            Deed("enable", "Switch on", lambda r, s: self.switch(r, s, True), shown=lambda row: not row.enabled),
            Deed(
                "disable",
                "Switch off",
                lambda r, s: self.switch(r, s, False),
                explain=lambda row: (
                    f"Nothing is asked of {row.name} any more. Its agents keep their rooms; whoever writes to them is told that "
                    "they are switched off. You can switch it on again at any time."
                ),
                danger=True,
                shown=lambda row: row.enabled,
            ),
            Deed(
                "delete",
                "Delete",
                self.delete,
                explain=lambda row: (
                    f"{row.name} and its credentials are removed from Switchboard. This works only while no agent, account or "
                    "room hangs on it; nothing is changed on the server itself."
                ),
                danger=True,
                shown=lambda row: row.managed_by == operated,
            ),
        )

    def test(self, request: HttpRequest, row: Service) -> str:
        result = service_test(service=row, actor=actor_of(request))
        if result.ok:
            return f"{row.name}: {result.sentence}"
        (messages.warning if result.status == ServiceStatus.DEGRADED else messages.error)(
            request, f"{row.name}: {result.sentence}"
        )
        return ""

    def switch(self, request: HttpRequest, row: Service, enabled: bool) -> str:
        service_save(
            actor=actor_of(request), name=row.name, kind=row.kind, base_url=row.base_url, enabled=enabled,
            managed_by=row.managed_by,
        )  # fmt: skip
        return f"{row.name} is switched {'on' if enabled else 'off'}."

    def delete(self, request: HttpRequest, row: Service) -> HttpResponse:
        name = row.name
        try:
            service_delete(service=row, actor=actor_of(request))
        except ProtectedError as error:
            count = len(error.protected_objects)
            messages.error(
                request,
                f"{name} cannot be deleted: {counted(count, 'agent, account or room hangs', 'agents, accounts or rooms hang')} on it. Switch it off instead.",
            )
            return HttpResponseRedirect(self.address_of(row))
        messages.success(request, f"{name} is deleted.")
        return HttpResponseRedirect(reverse("admin:ops_service_changelist"))

    def detail_context(self, request: HttpRequest, row: Service) -> dict[str, Any]:
        known = service_kind(row.kind)
        by_environment = row.managed_by == ManagedBy.ENVIRONMENT
        edit = () if by_environment else (Button("Edit", reverse("admin:ops_service_edit", args=[row.pk])),)
        return {
            "word": _word(row),
            "kind_label": known.label if known else row.kind,
            "settings": ServiceForm.shown_values(row),
            "by_environment": by_environment,
            "edit_buttons": edit,
        }

    def choose_view(self, request: HttpRequest) -> HttpResponse:
        """First the kind, then its form."""
        return self.page(request, "switchboard/service_kinds.html", title="Add a service", kinds=service_kinds())

    def form_view(self, request: HttpRequest, kind: str = "", object_id: str = "") -> HttpResponse:
        """The form of a new service or of one that an operator manages."""
        row: Service | None = self._row(request, object_id) if object_id else None
        known = service_kind(row.kind if row else kind)
        if known is None or (row is not None and row.managed_by == ManagedBy.ENVIRONMENT):
            why = "The environment manages this service." if row else f"There is no kind {kind!r}."
            messages.error(request, why)
            return HttpResponseRedirect(self.address_of(row) if row else reverse("admin:ops_service_add"))
        form = ServiceForm(request.POST or None, kind=known, service=row)
        if request.method == "POST" and form.is_valid():
            try:
                saved = service_save(actor=actor_of(request), **form.save_arguments())
            except ValidationError as error:
                form.take_errors(error)
            else:
                messages.success(request, f"{saved.name} is saved. Test the connection to see whether it works.")
                return HttpResponseRedirect(self.address_of(saved))
        return self.page(
            request,
            "switchboard/form.html",
            title=f"Edit {row.name}" if row else f"Add: {known.label}",
            form=form,
            back=self.address_of(row) if row else reverse("admin:ops_service_changelist"),
            sentence="Secrets are stored encrypted and never shown again. Leave a secret empty to keep the one that is set.",
        )


def _word(row: Service) -> str:
    return "Off" if not row.enabled else row.get_status_display()
