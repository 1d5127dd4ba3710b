"""Filters of the lists of agents and mappings."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest


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
