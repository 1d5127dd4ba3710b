"""The form between a backup and its comparison: the key where one is needed, and what of it is wanted."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from ops.admin.backup_words import machine_fingerprint
from ops.backup.scopes import kinds
from ops.models import Backup
from ops.redaction import add_secret


def opens_here(backup: Backup) -> bool:
    """Whether this machine's own key opens it. One that says nothing of its keys may be opened by it."""
    return not backup.recipients or machine_fingerprint() in backup.recipients


class RestoreForm(forms.Form):
    """A recovery key is used for this one restore and kept nowhere."""

    backup = forms.UUIDField(widget=forms.HiddenInput)
    key = forms.CharField(
        max_length=500,
        label="Recovery key",
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text="AGE-SECRET-KEY-1…. This machine's own key does not open this backup. The key is used for this restore and then forgotten.",
    )
    everything = forms.ChoiceField(
        label="What of it",
        widget=forms.RadioSelect,
        choices=[("yes", "Everything"), ("no", "Only some kinds")],
        initial="yes",
    )
    kinds = forms.MultipleChoiceField(required=False, widget=forms.CheckboxSelectMultiple, label="These kinds")
    without_words = forms.BooleanField(required=False, label="Remove what was said since")

    def __init__(self, data: Any = None, *, backup: Backup) -> None:
        super().__init__(data, initial={"backup": backup.pk})
        field = self.fields["kinds"]
        assert isinstance(field, forms.MultipleChoiceField)
        field.choices = [(kind.name, f"{kind.label}: {kind.sentence}") for kind in kinds()]
        if opens_here(backup):
            del self.fields["key"]

    def clean_key(self) -> str:
        text = "".join(str(self.cleaned_data["key"]).split()).upper()
        add_secret(text)
        if not text.startswith("AGE-SECRET-KEY-1"):
            raise ValidationError("That is no recovery key: it begins with AGE-SECRET-KEY-1.")
        return text

    def clean(self) -> dict[str, Any]:
        cleaned = dict(super().clean() or self.cleaned_data)
        if cleaned.get("everything") == "no" and not cleaned.get("kinds"):
            self.add_error("kinds", "Choose at least one kind, or everything.")
        return cleaned

    def identities(self) -> list[str] | None:
        """What opens it; None: this machine's own key."""
        return [self.cleaned_data["key"]] if self.cleaned_data.get("key") else None

    def chosen_kinds(self) -> list[str]:
        """Empty: all."""
        return [] if self.cleaned_data["everything"] == "yes" else list(self.cleaned_data["kinds"])

    def forget_key(self) -> None:
        """What was typed is a secret: it does not come back in the answer."""
        data: Any = self.data.copy()  # type: ignore[attr-defined]
        data["key"] = ""
        self.data = data
