"""Releases: which versions ran here, with which schema and configuration, and the backup from before each."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Exists, OuterRef
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from unfold.decorators import display

from ops import html
from ops.admin.base import OperatorAdmin
from ops.models import Release


@admin.register(Release)
class ReleaseAdmin(OperatorAdmin):
    list_display = ("name", "state_lamp", "first_seen", "last_seen", "python", "schema", "before")
    list_display_links = ("name",)
    list_select_related = ("backup",)
    search_fields = ("version", "git_sha")
    detail_template = "switchboard/release.html"
    intro = "Every start that differs from the one before in version, schema or configuration is written down here. Going back to one begins on its page."
    empty_title = "No release is noted yet"
    empty_text = "The next start writes down which version runs."

    def get_queryset(self, request: HttpRequest) -> Any:
        newer = Release.objects.filter(pk__gt=OuterRef("pk"))
        rows = super().get_queryset(request).annotate(is_former=Exists(newer))
        return rows.defer("config", "backup__manifest", "backup__parts")

    @display(description="Release", ordering="id")
    def name(self, row: Release) -> str:
        return str(row)

    @display(description="State")
    def state_lamp(self, row: Any) -> str:
        return html.lamp("off", "Before") if row.is_former else html.lamp("good", "Runs now")

    @display(description="First seen", ordering="first_seen_at")
    def first_seen(self, row: Release) -> str:
        return html.ago(row.first_seen_at)

    @display(description="Last seen", ordering="last_seen_at")
    def last_seen(self, row: Release) -> str:
        return html.ago(row.last_seen_at)

    @display(description="Schema")
    def schema(self, row: Release) -> str:
        newest = [f"{app} {name[:4]}" for app, name in sorted((row.migrations or {}).items()) if app in _OURS]
        return ", ".join(newest)

    @display(description="Backup from before")
    def before(self, row: Release) -> str:
        if row.backup is None:
            return html.quiet("none")
        return html.link(reverse("admin:ops_backup_change", args=[row.backup_id]), html.relative(row.backup.made_at))

    def detail_context(self, request: HttpRequest, row: Release) -> dict[str, Any]:
        current = Release.objects.order_by("-id").first()
        former = Release.objects.filter(pk__lt=row.pk).order_by("-id").first()
        return {
            "current": current,
            "is_current": current is not None and current.pk == row.pk,
            "former": former,
            "schema": differing(former.migrations if former else {}, row.migrations),
            "settings": differing(former.config if former else {}, row.config),
            "rollback": _rollback_address(),
        }


_OURS = frozenset({"ops", "agents", "chat", "controlplane"})


def differing(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """``[(name, before, after)]`` of what differs between two JSON objects."""
    before, after = before or {}, after or {}
    return [
        (name, before.get(name), after.get(name))
        for name in sorted({**before, **after})
        if before.get(name) != after.get(name)
    ]


def _rollback_address() -> str:
    from ops.doctor.repairs import get_repair

    if get_repair("release.rollback") is None:
        return ""
    try:
        return reverse("admin:ops_repair_plan", args=["release.rollback"])
    except NoReverseMatch:
        return ""
