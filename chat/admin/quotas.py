"""Quotas: how much a person, a role or an agent may use in a day, and what is used of it today."""

from __future__ import annotations

from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from unfold.decorators import display

from agents.models import Agent
from chat.admin.people_deeds import QuotaForm
from chat.admin.usage import csv_view, usage_view
from chat.models import Person, PersonRole, Quota
from chat.quota_figures import Standing, standings
from chat.services.quotas import quota_set
from ops import html
from ops.admin.base import Deed, OperatorAdmin, actor_of


class NewQuotaForm(QuotaForm):
    """For exactly one of a role, a person, an agent."""

    role = forms.ChoiceField(choices=[("", "–"), *PersonRole.choices], required=False, label="For everybody of a role")
    person = forms.CharField(max_length=150, required=False, label="Or for one person", help_text="Their user name.")
    agent = forms.ModelChoiceField(
        Agent.objects.order_by("name"), required=False, label="Or for one agent, all people together"
    )
    field_order = ("role", "person", "agent", "messages_per_day", "tokens_per_day")

    def clean_person(self) -> Person | None:
        name = str(self.cleaned_data["person"]).strip()
        found = Person.objects.filter(username__iexact=name).first() if name else None
        if name and found is None:
            raise ValidationError(f"Nobody is called {name}.")
        return found

    def clean(self) -> dict[str, Any]:
        cleaned = dict(super().clean() or self.cleaned_data)
        if cleaned.get("messages_per_day") is None and cleaned.get("tokens_per_day") is None and not self.errors:
            raise ValidationError("Give a number of messages, of tokens, or both.")
        return cleaned


@admin.register(Quota)
class QuotaAdmin(OperatorAdmin):
    list_display = ("of_what", "messages_today", "tokens_today")
    list_select_related = ("person", "agent")
    search_fields = ("person__username", "person__display_name", "agent__name")
    ordering = ("id",)
    detail_template = "switchboard/quota.html"
    intro = (
        "Limits for a day of UTC. A person's and a role's limit count what one person uses in all, an agent's what all people together use "
        "of it; the tightest that fits counts. Whoever is over is told so, and when it begins anew."
    )
    empty_title = "No limits"
    empty_text = (
        "Everybody may use as much as the model's provider allows. Make a quota for a role, a person or an agent."
    )

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request)

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("<int:object_id>/edit/", wrap(self.edit_view), name="chat_quota_edit"),
            path("use/", wrap(partial(usage_view, self)), name="usage"),
            path("use/csv/", wrap(csv_view), name="usage_csv"),
        ]
        return [*own, *super().get_urls()]

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """What is used of all quotas of the page is asked for once."""
        found = super().get_changelist_instance(request)
        self._standings = standings(list(found.result_list))
        return found

    @display(description="Of")
    def of_what(self, row: Quota) -> str:
        return what_of(row)

    @display(description="Messages today")
    def messages_today(self, row: Quota) -> str:
        return _text(self._standings[row.pk][0])

    @display(description="Tokens today")
    def tokens_today(self, row: Quota) -> str:
        return _text(self._standings[row.pk][1])

    def deeds(self) -> tuple[Deed, ...]:
        return (
            Deed("remove", "Remove", self.remove, danger=True, explain=lambda row: f"{what_of(row)} may use as much as other limits allow."),
        )  # fmt: skip

    def remove(self, request: HttpRequest, row: Quota) -> HttpResponse:
        what = what_of(row)
        quota_set(person=row.person, agent=row.agent, role=row.role, actor=actor_of(request))
        messages.success(request, f"The limit of {what} is gone.")
        return HttpResponseRedirect(reverse("admin:chat_quota_changelist"))

    def detail_context(self, request: HttpRequest, row: Quota) -> dict[str, Any]:
        return {
            "what": what_of(row),
            "standing": [one for one in standings([row])[row.pk] if one.limit is not None],
            "edit": reverse("admin:chat_quota_edit", args=[row.pk]),
        }

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        form = NewQuotaForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                row = quota_set(actor=actor_of(request), **form.cleaned_data)
            except ValidationError as error:
                form.add_error(None, error.messages)
            else:
                messages.success(request, f"{what_of(row) if row else 'It'} is limited.")
                return HttpResponseRedirect(reverse("admin:chat_quota_changelist"))
        return self._form(request, form, "Make a quota", reverse("admin:chat_quota_changelist"))

    def edit_view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Other numbers for a quota that there is."""
        row: Quota = self._row(request, str(object_id))
        numbers = {"messages_per_day": row.messages_per_day, "tokens_per_day": row.tokens_per_day}
        form = QuotaForm(request.POST if request.method == "POST" else None, initial=numbers)
        if request.method == "POST" and form.is_valid():
            kept = quota_set(
                person=row.person, agent=row.agent, role=row.role, actor=actor_of(request), **form.cleaned_data
            )
            messages.success(request, f"The limit of {what_of(row)} is {'saved' if kept else 'gone'}.")
            return HttpResponseRedirect(self.address_of(kept) if kept else reverse("admin:chat_quota_changelist"))
        return self._form(request, form, f"Limit of {what_of(row)}", self.address_of(row))

    def _form(self, request: HttpRequest, form: forms.Form, title: str, back: str) -> HttpResponse:
        sentence = "For a day of UTC. Empty is no limit, 0 is nothing at all. Tokens count what agents read and write."
        return self.page(request, "switchboard/form.html", title=title, form=form, back=back, sentence=sentence)


def what_of(row: Quota) -> str:
    """Who or what is limited, in words."""
    if row.person is not None:
        return str(row.person)
    if row.agent is not None:
        return f"agent {row.agent}"
    return f"everybody who is {'an operator' if row.role == PersonRole.OPERATOR else 'a person'}"


def _text(one: Standing) -> str | SafeString:
    if one.limit is None:
        return html.quiet("no limit")
    if one.used is None:
        return f"{one.limit:,} each"
    text = f"{one.used:,} of {one.limit:,}"
    return html.lamp("trouble", f"{text}, used up") if one.is_full else text
