"""Settings: every key with its value, where it comes from and whether it is right; tests, and changes of what can be changed."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.text import slugify

from ops import html
from ops.admin.base import OperatorAdmin, actor_of, is_operator
from ops.admin.retention import retention_view
from ops.choices import Lamp
from ops.configuration import listing
from ops.configuration.schema import configuration
from ops.doctor_config.checks_places import reach_grid
from ops.models import LiveSetting
from ops.services.audit import record


@admin.register(LiveSetting)
class SettingsAdmin(OperatorAdmin):
    """The rows are what operators changed live; the page shows all settings."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return is_operator(request)

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("", wrap(self.list_view), name="ops_livesetting_changelist"),
            path("test/", wrap(self.test_view), name="ops_setting_test"),
            path("reach/", wrap(self.reach_view), name="ops_reach"),
            path("retention/", wrap(partial(retention_view, self)), name="retention"),
        ]
        return [*own, *super().get_urls()]

    def list_view(self, request: HttpRequest) -> HttpResponse:
        """All settings, in their groups; ``?invalid=1`` only those that are not right."""
        if not is_operator(request):
            raise PermissionDenied
        found = listing.rows()
        wrong = [row for row in found if not row.valid]
        only_wrong = request.GET.get("invalid") == "1"
        text = request.GET.get("q", "").strip()[:100]
        shown = wrong if only_wrong else found
        if text:
            shown = [row for row in shown if text.lower() in f"{row.name} {row.help} {' '.join(row.aliases)}".lower()]
        groups: dict[str, list[dict[str, Any]]] = {}
        for row in shown:
            groups.setdefault(row.group, []).append(_entry(row))
        return self.page(
            request,
            "switchboard/configuration.html",
            title="Settings",
            groups=list(groups.items()),
            count=len(found),
            wrong=len(wrong),
            pending=sum(bool(row.pending) for row in found),
            lamp=Lamp.TROUBLE if wrong else Lamp.GOOD,
            only_wrong=only_wrong,
            text=text,
            file=configuration().env_file(),
        )

    def test_view(self, request: HttpRequest) -> HttpResponse:
        """Asks the server that a value names, and goes back to where it stands."""
        if not is_operator(request):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        name = request.POST.get("name", "")[:200]
        row = listing.row(name)
        if row is None:
            messages.error(request, f"There is no setting {name}.")
            return HttpResponseRedirect(reverse("admin:ops_livesetting_changelist"))
        tried = listing.test(row)
        record(actor=actor_of(request), action="setting.tested", target=f"setting:{name}", after={"ok": tried.ok})
        say = messages.success if tried.ok else messages.error if tried.ok is False else messages.warning
        say(request, f"{name}: {tried.sentence}")
        return HttpResponseRedirect(f"{reverse('admin:ops_livesetting_changelist')}#{slugify(name)}")

    def reach_view(self, request: HttpRequest) -> HttpResponse:
        """Who reaches what: each process with each server, and the stage at which it ends."""
        if not is_operator(request):
            raise PermissionDenied
        grid = reach_grid()
        servers = sorted({name for cells in grid.values() for name in cells})
        rows = [(who, [(name, _cell(cells.get(name))) for name in servers]) for who, cells in grid.items()]
        bad = sum(not cell.get("ok") for cells in grid.values() for cell in cells.values())
        return self.page(
            request,
            "switchboard/configuration_reach.html",
            title="Who reaches what",
            rows=rows,
            servers=servers,
            bad=bad,
            lamp=Lamp.TROUBLE if bad else Lamp.GOOD if servers else Lamp.OFF,
        )


def _entry(row: listing.Row) -> dict[str, Any]:
    return {
        "row": row,
        "anchor": slugify(row.name),
        "lamp": html.lamp(Lamp.GOOD, "Valid") if row.valid else html.lamp(Lamp.TROUBLE, "Wrong"),
        "source": listing.SOURCES[row.source],
    }


def _cell(cell: dict[str, Any] | None) -> dict[str, Any]:
    if not cell:
        return {"lamp": html.lamp(Lamp.OFF, "Not asked"), "sentence": ""}
    if cell.get("ok"):
        return {"lamp": html.lamp(Lamp.GOOD, f"{cell.get('milliseconds', 0)} ms"), "sentence": ""}
    return {"lamp": html.lamp(Lamp.TROUBLE, str(cell.get("stage", ""))), "sentence": cell.get("sentence", "")}
