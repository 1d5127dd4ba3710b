"""Looking at the portal as a person: begun on the person's page with a reason, ended from the banner."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import reverse

from chat.access.looking import SESSION_KEY
from chat.models import Impersonation, Person
from chat.services.impersonation import LASTS, impersonation_start, impersonation_stop
from ops.admin.base import Deed, actor_of


class ReasonForm(forms.Form):
    """Why it is done; the audit log keeps it."""

    reason = forms.CharField(max_length=500, help_text="Stands in the audit log.")


def look_deed() -> Deed:
    """ "View as": for people who are no operators."""
    return Deed(
        "look",
        "View as",
        _begin,
        explain=lambda row: (
            f"For {LASTS.seconds // 60} minutes the chat pages of this browser show what {row} sees: agents, conversations, messages, files. "
            "You only read: nothing is sent, changed or marked as read in their name. Passwords, tokens, two-factor and sessions are shut "
            "meanwhile. Beginning and end stand in the audit log, and it ends with your own session."
        ),
        shown=lambda row: row.is_active and not row.is_staff,
        button="View as…",
        form=lambda data, row: ReasonForm(data),
    )


def _begin(request: HttpRequest, row: Person, asked: dict[str, Any]) -> HttpResponse:
    operator = request.user
    assert isinstance(operator, Person)
    looks = impersonation_start(
        operator=operator,
        person=row,
        session_key=request.session.session_key or "",
        reason=asked["reason"],
        actor=actor_of(request),
    )
    request.session[SESSION_KEY] = looks.pk
    return HttpResponseRedirect(reverse("chat"))


def stop_view(request: HttpRequest) -> HttpResponse:
    """End the look of this browser, and go back to the person's page."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    row = Impersonation.objects.filter(
        pk=request.session.pop(SESSION_KEY, None), session_key=request.session.session_key
    ).first()
    if row is None:
        return HttpResponseRedirect(reverse("admin:chat_person_changelist"))
    if impersonation_stop(impersonation=row, actor=actor_of(request)):
        messages.success(request, f"You no longer look at the portal as {row.person}.")
    return HttpResponseRedirect(reverse("admin:chat_person_change", args=[row.person_id]))
