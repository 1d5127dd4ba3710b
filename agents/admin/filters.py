"""Filters of the lists of agents and mappings."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest

from agents.models import Drift


class ConnectionFilter(admin.SimpleListFilter):
    """How it stands with account and room; also for lists of mappings (``prefix`` leads to the mapping)."""

    title = "connection"
    parameter_name = "connection"
    prefix = "mapping__"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("trouble", "Trouble"), ("incomplete", "Being set up"), ("connected", "Connected")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        at = self.prefix
        trouble = Q(**{f"{at}isnull": False}) & ~Q(**{f"{at}problem": ""}) if at else ~Q(problem="")
        missing = Q(**{f"{at}room__room_id__isnull": True}) | Q(**{f"{at}account__registered_at__isnull": True})
        if self.value() == "trouble":
            return queryset.filter(trouble)
        if self.value() == "incomplete":
            return queryset.filter(missing)
        if self.value() == "connected":
            return queryset.exclude(missing).filter(**{f"{at}problem": ""})
        return queryset


class MappingConnectionFilter(ConnectionFilter):
    """The same for mappings themselves."""

    prefix = ""


class PausedFilter(admin.SimpleListFilter):
    """Whether an operator paused the agent, or its room is quiet."""

    title = "answers"
    parameter_name = "answers"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("all", "Everything"), ("quiet", "When mentioned (quiet room)"), ("none", "Nothing (paused)")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() == "none":
            return queryset.filter(paused=True)
        if self.value() == "quiet":
            return queryset.filter(paused=False, mapping__room__quiet=True)
        return queryset.filter(paused=False).exclude(mapping__room__quiet=True) if self.value() == "all" else queryset


class DriftFilter(admin.SimpleListFilter):
    """Whether the homeserver differs from what the mapping says; also for lists of agents (``path`` leads to the mapping)."""

    title = "drift"
    parameter_name = "drift"
    path = "mapping_id"
    own = "pk"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", "Differs on the homeserver"), ("decide", "Somebody has to decide"), ("none", "In step")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() not in {"open", "decide", "none"}:
            return queryset
        rows = Drift.objects.filter(mended_at=None, mapping__isnull=False)
        if self.value() == "decide":
            rows = rows.filter(mends=False)
        keys = rows.values(self.path)
        if self.value() == "none":
            return queryset.exclude(**{f"{self.own}__in": keys})
        return queryset.filter(**{f"{self.own}__in": keys})


class AgentDriftFilter(DriftFilter):
    """The same for agents."""

    path = "mapping__agent_id"


class StandingFilter(admin.SimpleListFilter):
    """Drift that is open, unless somebody asks for the rest."""

    title = "standing"
    parameter_name = "standing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("", "Open"), ("decide", "Somebody has to decide"), ("mended", "Mended"), ("all", "All")]

    def choices(self, changelist: Any) -> Any:
        for value, title in self.lookup_choices:
            yield {
                "selected": (self.value() or "") == value,
                "query_string": changelist.get_query_string(
                    {self.parameter_name: value} if value else {}, [] if value else [self.parameter_name]
                ),
                "display": title,
            }

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() == "all":
            return queryset
        if self.value() == "mended":
            return queryset.filter(mended_at__isnull=False)
        rows = queryset.filter(mended_at=None)
        return rows.filter(mends=False) if self.value() == "decide" else rows
