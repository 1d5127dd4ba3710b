"""What is asked for when an invitation is made, extended or checked."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone

from agents.models import Agent, AgentState
from chat.models import Invite, PersonRole

_ENDS = [("1", "1 day"), ("7", "7 days"), ("30", "30 days"), ("90", "90 days"), ("365", "One year"), ("", "No end")]


def end_of(days: str) -> datetime | None:
    """The end for a choice of ``_ENDS``; ``None``: no end."""
    return timezone.now() + timedelta(days=int(days)) if days else None


class InviteForm(forms.Form):
    """A new invitation."""

    note = forms.CharField(
        max_length=255, required=False, help_text="For whom it is, for example: the team in Lyon. They do not see it."
    )
    role = forms.ChoiceField(
        choices=PersonRole.choices,
        initial=PersonRole.PERSON,
        help_text="An operator sees and does everything on this site.",
    )
    uses = forms.IntegerField(
        min_value=1,
        max_value=1_000_000,
        required=False,
        initial=1,
        label="How many may join by it",
        help_text="Empty: any number.",
    )
    days = forms.ChoiceField(choices=_ENDS, initial="7", required=False, label="Counts for")
    all_agents = forms.BooleanField(
        label="They may talk to every agent, also those to come", required=False, initial=True
    )
    agents = forms.ModelMultipleChoiceField(
        Agent.objects.none(), required=False, label="Or only to these", widget=forms.SelectMultiple(attrs={"size": 10})
    )

    def __init__(self, data: Any = None) -> None:
        super().__init__(data)
        field = self.fields["agents"]
        assert isinstance(field, forms.ModelMultipleChoiceField)
        field.queryset = Agent.objects.exclude(state=AgentState.ARCHIVED).order_by("name")

    def clean(self) -> dict[str, Any]:
        cleaned = dict(super().clean() or self.cleaned_data)
        if not cleaned.get("all_agents") and not cleaned.get("agents") and cleaned.get("role") != PersonRole.OPERATOR:
            raise ValidationError({"agents": "Choose the agents, or allow all of them."})
        return cleaned

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of ``invite_create`` that were asked for."""
        asked = self.cleaned_data
        return {
            "role": asked["role"],
            "max_uses": asked["uses"],
            "expires_at": end_of(asked["days"]),
            "all_agents": asked["all_agents"],
            "agents": [] if asked["all_agents"] else list(asked["agents"]),
            "note": asked["note"],
        }


class ExtendForm(forms.Form):
    """Another end, another number of uses."""

    days = forms.ChoiceField(
        choices=[("keep", "As it is"), *_ENDS], initial="7", required=False, label="From now on it counts for"
    )
    uses = forms.IntegerField(
        min_value=1,
        max_value=1_000_000,
        required=False,
        label="How many may join by it in all",
        help_text="Empty: any number.",
    )

    def __init__(self, data: Any, row: Invite) -> None:
        super().__init__(data, initial={"uses": row.max_uses})
        self.row = row

    def clean_uses(self) -> int | None:
        uses: int | None = self.cleaned_data["uses"]
        if uses is not None and uses < self.row.uses:
            raise ValidationError(f"{self.row.uses} have joined by it already.")
        return uses


class CodeForm(forms.Form):
    """A code that somebody says does not work."""

    code = forms.CharField(max_length=200, widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
                           help_text="Capitals, spaces and dashes do not matter.")  # fmt: skip

    def clean_code(self) -> str:
        # A whole link may be pasted as well.
        return str(self.cleaned_data["code"]).rpartition("#")[2].strip()
