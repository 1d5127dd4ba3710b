"""Matrix accounts that agents speak as."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from unfold.decorators import display

from agents.admin.common import account_state
from agents.admin.homeserver import homeserver_act_view, homeserver_view
from agents.models import Account
from ops import html
from ops.admin.base import OperatorAdmin
from ops.admin.panels import panels_of


@admin.register(Account)
class AccountAdmin(OperatorAdmin):
    list_display = ("user", "state_lamp", "display_name", "agent", "way", "homeserver", "registered")
    list_filter = ("way", "session")
    list_select_related = ("homeserver", "mapping__agent")
    search_fields = ("user_id", "display_name", "mapping__agent__name")
    search_help_text = "Matrix id, name or agent"
    detail_template = "switchboard/message.html"
    intro = (
        "The Matrix accounts that agents speak as. Those in Switchboard's own namespace need no password; the others, and all in client "
        "mode, speak with a session of their own."
    )
    empty_title = "No account yet"
    empty_text = "A sync makes an account for each agent."

    def get_urls(self) -> list[URLPattern]:
        # The homeserver's page hangs on the accounts: it is what they live on.
        wrap = self.admin_site.admin_view
        own = [
            path("homeserver/", wrap(partial(homeserver_view, self)), name="homeserver"),
            path("homeserver/<slug:ability>/", wrap(partial(homeserver_act_view, self)), name="homeserver_act"),
        ]
        return [*own, *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> Any:
        # Secrets are not read, let alone decrypted, for a list.
        return super().get_queryset(request).defer("secrets")

    @display(description="Account", ordering="user_id")
    def user(self, row: Account) -> str:
        return row.user_id

    @display(description="State")
    def state_lamp(self, row: Account) -> str:
        return html.lamp(*account_state(row)[:2])

    @display(description="Agent", ordering="mapping__agent__name")
    def agent(self, row: Account) -> str:
        mapping = getattr(row, "mapping", None)
        return (
            html.link(reverse("admin:agents_agent_change", args=[mapping.agent_id]), mapping.agent) if mapping else ""
        )

    @display(description="Registered", ordering="registered_at")
    def registered(self, row: Account) -> str:
        return html.ago(row.registered_at)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: object = None
    ) -> HttpResponse:
        """An account's page is its agent's, where it has one."""
        row = self._row(request, object_id)
        mapping = getattr(row, "mapping", None)
        if mapping is not None:
            return HttpResponseRedirect(reverse("admin:agents_agent_change", args=[mapping.agent_id]))
        return self.page(
            request,
            "switchboard/message.html",
            title=row.user_id,
            row=row,
            sentence="This account belongs to no agent.",
            first_panels=[panel for panel in panels_of(request, row) if panel.template and panel.first],
        )
