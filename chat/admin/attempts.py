"""Attempts to get in, with their true outcome: what whoever tried was not told."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import URLPattern, path, reverse
from unfold.decorators import display

from chat.admin.people_page import outcome_words
from chat.admin.socket_check import check_view, ticket_view
from chat.models import AccessAttempt
from ops import html
from ops.admin.base import OperatorAdmin


class OutcomeFilter(admin.SimpleListFilter):
    """By what came of it. The words are known; asking the table which ones occur would read all of it."""

    title = "outcome"
    parameter_name = "came"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("ok", "Got in"),
            ("failed", "Did not get in"),
            ("limited", "Too many attempts"),
            ("unknown", "Nobody has that name"),
            ("inactive", "Deactivated"),
        ]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() == "failed":
            return queryset.exclude(outcome="ok")
        return queryset.filter(outcome=self.value()) if self.value() else queryset


@admin.register(AccessAttempt)
class AccessAttemptAdmin(OperatorAdmin):
    list_display = ("at_text", "what", "outcome_lamp", "name_text", "who", "address_text", "browser")
    list_display_links = None
    list_filter = ("kind", OutcomeFilter)
    list_select_related = ("person", "invite")
    search_fields = ("name", "address", "person__username", "invite__hint")
    search_help_text = "Name, address or invitation"
    ordering = ("-id",)
    intro = (
        "Who tried to get in, and what really came of it. People themselves are told one and the same sentence for every reason, "
        "so that nobody learns which names and codes there are."
    )
    empty_title = "Nobody has tried yet"
    empty_text = (
        "Sign-ins, invitations, registrations, resets, tokens and sockets appear here, kept for a limited time."
    )

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("socket/", wrap(partial(check_view, self)), name="socket_check"),
            path("socket/ticket/", wrap(ticket_view), name="socket_check_ticket"),
        ]
        return [*own, *super().get_urls()]

    @display(description="When")
    def at_text(self, row: AccessAttempt) -> str:
        return html.ago(row.at)

    @display(description="What")
    def what(self, row: AccessAttempt) -> str:
        return row.get_kind_display()

    @display(description="Outcome")
    def outcome_lamp(self, row: AccessAttempt) -> str:
        return html.lamp("good" if row.outcome == "ok" else "attention", outcome_words(row.outcome))

    @display(description="Name given")
    def name_text(self, row: AccessAttempt) -> str:
        return row.name or html.quiet("none")

    @display(description="Person or invitation")
    def who(self, row: AccessAttempt) -> str:
        if row.person is not None:
            return html.link(reverse("admin:chat_person_change", args=[row.person_id]), row.person)
        if row.invite is not None:
            return html.link(reverse("admin:chat_invite_change", args=[row.invite_id]), row.invite)
        return html.quiet("none")

    @display(description="Address")
    def address_text(self, row: AccessAttempt) -> str:
        return row.address or ""

    @display(description="With")
    def browser(self, row: AccessAttempt) -> str:
        return html.quiet(row.user_agent[:60])
