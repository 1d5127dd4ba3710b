"""What an operator can do to a person: each deed calls one service function."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from agents.models import Agent, AgentState
from chat.admin.looking import look_deed
from chat.admin.reset import reset_page
from chat.models import AgentGrant, Person, Quota
from chat.services.email_addresses import email_confirm, open_confirmations
from chat.services.grants import person_agents_set
from chat.services.people import person_deactivate, person_delete, person_reactivate, sign_out_everywhere
from chat.services.quotas import quota_set
from ops.admin.base import Deed, actor_of


class DeactivateForm(forms.Form):
    """Why somebody is shut out; they do not see it, operators do."""

    reason = forms.CharField(max_length=500, help_text="Shown to operators on this page, and kept in the audit log.")


class DeleteForm(forms.Form):
    """What becomes of the conversations, and the name once more."""

    conversations = forms.ChoiceField(
        label="Their conversations",
        choices=[("keep", "Keep them for operators, under the name"), ("delete", "Delete them too, with their files")],
        widget=forms.RadioSelect,
        initial="keep",
    )
    typed = forms.CharField(label="Type the user name")

    def __init__(self, data: Any, row: Person) -> None:
        super().__init__(data)
        self.row = row
        self.fields["typed"].help_text = f"To be sure: type {row.get_username()}"

    def clean_typed(self) -> str:
        typed = str(self.cleaned_data["typed"]).strip()
        if typed != self.row.get_username():
            raise ValidationError(f"That is not {self.row.get_username()}.")
        return typed


class AgentsForm(forms.Form):
    """All agents, or some."""

    all_agents = forms.BooleanField(label="Every agent, also those to come", required=False)
    agents = forms.ModelMultipleChoiceField(
        Agent.objects.none(), required=False, label="Or only these", widget=forms.SelectMultiple(attrs={"size": 12})
    )

    def __init__(self, data: Any, row: Person) -> None:
        super().__init__(
            data,
            initial={
                "all_agents": row.all_agents,
                "agents": list(AgentGrant.objects.filter(person=row).values_list("agent_id", flat=True)),
            },
        )
        field = self.fields["agents"]
        assert isinstance(field, forms.ModelMultipleChoiceField)
        field.queryset = Agent.objects.exclude(state=AgentState.ARCHIVED).order_by("name")


class QuotaForm(forms.Form):
    """Limits of a day; empty is none."""

    messages_per_day = forms.IntegerField(
        min_value=0,
        max_value=2**31 - 1,
        required=False,
        label="Messages a day",
        help_text="Empty: no limit of their own.",
    )
    tokens_per_day = forms.IntegerField(
        min_value=0,
        max_value=2**53,
        required=False,
        label="Tokens a day",
        help_text="Read and written by agents for them.",
    )


def _quota_form(data: Any, row: Person) -> forms.Form:
    known = Quota.objects.filter(person=row).first()
    initial = {name: getattr(known, name, None) for name in ("messages_per_day", "tokens_per_day")}
    return QuotaForm(data, initial=initial)


class ConfirmForm(forms.Form):
    """Which address is vouched for; the link by which the person proves it themselves stands beside it."""

    email = forms.ChoiceField(label="Their address", widget=forms.RadioSelect)

    def __init__(self, data: Any, row: Person) -> None:
        super().__init__(data)
        found = open_confirmations(row)
        field = self.fields["email"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [(address, address) for address, _ in found]
        links = "; ".join(f"{address}: {link}" for address, link in found)
        field.help_text = f"Or hand them the link by which they prove it themselves; it counts three days. {links}"


def person_deeds() -> tuple[Deed, ...]:
    """In the order of their buttons."""
    return (
        Deed(
            "reset",
            "Make a reset link",
            reset_page,
            explain=lambda row: (
                f"Makes a link by which {row} sets a new password once, and shows it to you. Their present password counts until then; "
                "nothing of theirs is lost."
            ),
            shown=lambda row: row.is_active,
            button="Reset link…",
        ),
        look_deed(),
        Deed("agents", "Agents", _agents, shown=lambda row: not row.is_staff, form=AgentsForm, button="Agents…",
             explain=lambda row: f"Whom {row} may talk to. What was said with others stays readable."),
        Deed("quota", "Quota", _quota, form=_quota_form, button="Quota…",
             explain=lambda row: f"How much {row} may use in a day (of UTC). The tightest of this, their role's and the agent's counts."),
        Deed(
            "confirm_email",
            "Confirm an e-mail address",
            _confirm_email,
            explain=lambda row: (
                f"You vouch that the address is {row}'s: they can sign in with it and have reset links sent there. Other addresses of theirs go."
            ),
            shown=lambda row: row.is_active and bool(open_confirmations(row)),
            form=ConfirmForm,
            button="Confirm e-mail…",
        ),
        Deed("reactivate", "Reactivate", _reactivate, primary=True, shown=lambda row: not row.is_active),
        Deed(
            "sign_out",
            "Sign out everywhere",
            _sign_out,
            explain=lambda row: (
                f"Every browser and every program of {row} has to sign in again; open pages end within two seconds. "
                "What they were typing stays with them."
            ),
            shown=lambda row: row.is_active,
            button="Sign out everywhere…",
        ),
        Deed(
            "deactivate",
            "Deactivate",
            _deactivate,
            explain=lambda row: (
                f"{row} cannot sign in any more; browsers, programs, tokens and sockets end within two seconds. What they said stays, and "
                "they can be reactivated at any time."
            ),
            danger=True,
            shown=lambda row: row.is_active,
            form=lambda data, row: DeactivateForm(data),
        ),
        Deed(
            "delete",
            "Delete",
            _delete,
            explain=lambda row: (
                f"{row} is gone for good, with their sessions, tokens and settings. To shut somebody out for a while, deactivate them instead. "
                "Their Matrix account on the homeserver stays."
            ),
            danger=True,
            form=DeleteForm,
        ),
    )  # fmt: skip


def _agents(request: HttpRequest, row: Person, asked: dict[str, Any]) -> str:
    person_agents_set(person=row, all_agents=asked["all_agents"], agents=asked["agents"], actor=actor_of(request))
    return f"{row} may talk to {'every agent' if asked['all_agents'] else 'the agents that you chose'}."


def _quota(request: HttpRequest, row: Person, asked: dict[str, Any]) -> str:
    kept = quota_set(person=row, actor=actor_of(request), **asked)
    return f"{row} has a quota of their own." if kept else f"{row} has no quota of their own."


def _confirm_email(request: HttpRequest, row: Person, asked: dict[str, Any]) -> str:
    if not email_confirm(person=row, email=asked["email"], actor=actor_of(request)):
        raise ValidationError(f"Somebody else has proved that {asked['email']} is theirs.")
    return f"{asked['email']} is confirmed for {row}."


def _reactivate(request: HttpRequest, row: Person) -> str:
    person_reactivate(person=row, actor=actor_of(request))
    return f"{row} may sign in again."


def _sign_out(request: HttpRequest, row: Person) -> str:
    own = row.pk == request.user.pk
    sign_out_everywhere(
        person=row, actor=actor_of(request), keep_session=(request.session.session_key or "") if own else ""
    )
    if own:
        from django.contrib.auth import update_session_auth_hash

        row.refresh_from_db()
        update_session_auth_hash(request, row)
    return f"{row} is signed out everywhere" + (", except here." if own else ".")


def _deactivate(request: HttpRequest, row: Person, asked: dict[str, Any]) -> str:
    person_deactivate(person=row, reason=asked["reason"], actor=actor_of(request))
    return f"{row} is deactivated."


def _delete(request: HttpRequest, row: Person, asked: dict[str, Any]) -> HttpResponse:
    from django.contrib import messages

    name = str(row)
    person_delete(person=row, conversations=asked["conversations"], actor=actor_of(request))
    messages.success(request, f"{name} is deleted.")
    return HttpResponseRedirect(reverse("admin:chat_person_changelist"))
