"""What can be done to an agent's account: compare it with the homeserver, and open, try or end a session of its own."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from agents.admin.common import mapping_of
from agents.models import AccountSession, AccountWay, Agent, AgentState
from agents.services.backends import homeserver_of, mode_of
from agents.services.drift import look
from agents.services.sessions import session_close, session_open, session_recover
from ops.admin.base import Deed, actor_of
from ops.words import counted, verb


class SessionForm(forms.Form):
    """A password for one login, or a token that somebody has got already."""

    password = forms.CharField(
        required=False,
        max_length=500,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="We log in once with it, and keep it encrypted for when the session ends.",
    )
    token = forms.CharField(
        required=False,
        max_length=2000,
        label="Or an access token",
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text="Of a session of this account that nobody else uses.",
    )

    def clean(self) -> dict[str, Any]:
        cleaned = dict(super().clean() or self.cleaned_data)
        if not cleaned.get("password") and not cleaned.get("token"):
            raise ValidationError("Give the account's password, or an access token.")
        return cleaned


def speaks_by_session(row: Agent) -> bool:
    """Whether the agent's account needs a session of its own."""
    mapping = mapping_of(row)
    if mapping is None or row.state == AgentState.ARCHIVED:
        return False
    return mapping.account.way == AccountWay.SESSION or mode_of(mapping.account.homeserver) == "client"


def session_deeds() -> tuple[Deed, ...]:
    """For accounts that speak with a session."""
    return (
        Deed(
            "session_open",
            "Open a session",
            _open,
            button="Open a session…",
            explain=lambda row: (
                f"{row.mapping.account.user_id} speaks with a session of its own. The homeserver is asked whether it belongs to that "
                "account before anything is kept."
            ),
            form=lambda data, row: SessionForm(data),
            shown=speaks_by_session,
        ),
        Deed(
            "session_try",
            "Try its session again",
            _try,
            shown=lambda row: speaks_by_session(row) and row.mapping.account.session != AccountSession.GOOD,
        ),
        Deed(
            "session_close",
            "End its session",
            _close,
            button="End its session…",
            explain=lambda row: (
                f"The homeserver ends the session of {row.mapping.account.user_id}, and token and password are removed from Switchboard. "
                "The agent falls silent unless the appservice may speak for it."
            ),
            danger=True,
            shown=lambda row: speaks_by_session(row) and row.mapping.account.session != AccountSession.NONE,
        ),
    )


def compare_deed() -> Deed:
    """Look now at what sync looks at in turn."""
    return Deed("compare", "Compare with the homeserver", _compare, shown=_has_place)


def _has_place(row: Agent) -> bool:
    mapping = mapping_of(row)
    return mapping is not None and mapping.account.registered_at is not None and row.state != AgentState.ARCHIVED


def _compare(request: HttpRequest, row: Agent) -> str:
    found = look(homeserver=homeserver_of(row.mapping.account.homeserver), mappings=[row.mapping])
    if not found:
        return f"{row}'s account and room are as they should be."
    return f"{counted(len(found), 'difference')} found. The page shows what mends {verb(len(found), 'it', 'them')}."


def _open(request: HttpRequest, row: Agent, asked: dict[str, Any]) -> str:
    account = row.mapping.account
    session_open(
        homeserver=homeserver_of(account.homeserver), account=account, password=asked["password"], token=asked["token"],
        actor=actor_of(request),
    )  # fmt: skip
    return f"{account.user_id} has a session, and the homeserver accepts it."


def _try(request: HttpRequest, row: Agent) -> str:
    account = row.mapping.account
    session_recover(homeserver=homeserver_of(account.homeserver), account=account, actor=actor_of(request), force=True)
    return f"The session of {account.user_id} is accepted."


def _close(request: HttpRequest, row: Agent) -> str:
    account = row.mapping.account
    session_close(homeserver=homeserver_of(account.homeserver), account=account, actor=actor_of(request))
    return f"{account.user_id} has no session any more."
