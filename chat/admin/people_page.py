"""What stands on a person's page: how they get in, what they have open, what they use. A constant number of queries."""

from __future__ import annotations

from typing import Any

from allauth.mfa.models import Authenticator
from django.http import HttpRequest
from django.urls import reverse

from chat import usage_figures
from chat.models import AccessAttempt, AgentGrant, Attachment, InviteUse, Membership, Person, Quota
from chat.open_things import sessions_of
from chat.quota_figures import standing_of_person

_SHOWN = 12
_DAYS = 30
# What became of an attempt, for operators; the client hears one sentence for all of them.
OUTCOMES = {
    "ok": "Got in",
    "unknown": "Nobody has that name",
    "wrong_password": "Wrong password",
    "wrong_code": "Wrong second factor",
    "inactive": "The account is deactivated",
    "limited": "Too many attempts",
    "asked": "A link was asked for",
    "handed": "An operator has seen to it",
    "no_mail": "No mail server is set",
    "no_address": "No e-mail address is known",
    "not_found": "No such code",
    "expired": "Expired",
    "used_up": "Used up",
    "revoked": "Revoked",
    "closed": "Registration is closed",
    "invalid": "Not in the shape of a code",
}


def outcome_words(outcome: str) -> str:
    """The outcome of an attempt in words; unknown ones as they are."""
    return OUTCOMES.get(outcome, outcome.replace("_", " ").capitalize())


def person_context(request: HttpRequest, row: Person) -> dict[str, Any]:
    """For ``switchboard/person.html``."""
    days = usage_figures.used(usage_figures.rows_of(days=_DAYS, person=row.pk), "day", limit=_DAYS)
    attempts = AccessAttempt.objects.filter(person=row)
    grants = AgentGrant.objects.filter(person=row).select_related("agent")
    return {
        "sessions": sessions_of(row, own=request.session.session_key or ""),
        "attempts": [{"row": one, "words": outcome_words(one.outcome)} for one in attempts[:_SHOWN]],
        "attempts_address": f"{reverse('admin:chat_accessattempt_changelist')}?person__id__exact={row.pk}",
        "second_factor": list(Authenticator.objects.filter(user=row).values_list("type", flat=True)),
        "joined_by": InviteUse.objects.filter(person=row).select_related("invite").first(),
        "all_agents": row.is_staff or row.all_agents,
        "granted": [one.agent for one in grants[:_SHOWN]],
        "conversations": Membership.objects.filter(person=row, removed_at=None).count(),
        "conversations_address": f"{reverse('admin:chat_conversation_changelist')}?person={row.pk}",
        "files": Attachment.objects.filter(owner=row).count(),
        "quota": Quota.objects.filter(person=row).first(),
        "standing": standing_of_person(row),
        "used": usage_figures.total(usage_figures.rows_of(days=_DAYS, person=row.pk)),
        "used_days": _DAYS,
        "usage_address": f"{reverse('admin:usage')}?person={row.pk}",
        "bars": columns(usage_figures.each_day(days, _DAYS)),
        "edit": reverse("admin:chat_person_edit", args=[row.pk]),
        "password": reverse("admin:auth_user_password_change", args=[row.pk]),
    }


def columns(days: list[usage_figures.Used], *, height: int = 90, step: int = 20) -> dict[str, Any]:
    """An SVG of one column a day: messages beside tokens, each against its own largest day."""
    most, most_tokens = max((one.messages for one in days), default=0), max((one.tokens for one in days), default=0)
    width = len(days) * step
    every = max(1, len(days) // 6)
    bars = []
    for number, one in enumerate(days):
        tall = height * one.messages / most if most else 0
        tall_tokens = height * one.tokens / most_tokens if most_tokens else 0
        bars.append(
            {
                "x": number * step + 2,
                "x2": number * step + step // 2,
                "y": round(height - tall, 1),
                "h": round(tall, 1),
                "y2": round(height - tall_tokens, 1),
                "h2": round(tall_tokens, 1),
                "title": f"{one.label}: {one.messages:,} messages, {one.answers:,} answers, {one.tokens:,} tokens",
                "label": one.key[5:] if number % every == 0 else "",
            }
        )
    return {
        "bars": bars,
        "width": width,
        "height": height + 18,
        "floor": height,
        "bar": step // 2 - 3,
        "empty": not (most or most_tokens),
    }
