"""What the set-up page asks for."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

from chat.models import Person
from chat.services.matrix_account import accounts_homeserver, reserved

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*\Z")


class PasswordForm(forms.Form):
    """A new password, typed twice; Django's validators judge it."""

    password = forms.CharField(
        label="Password",
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="At least 8 characters, not a common one, not digits only.",
    )
    again = forms.CharField(
        label="Password again", strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "new-password"})
    )

    def __init__(self, *args: Any, person: Person | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._person = person
        for name, field in self.fields.items():
            described = f"id_{name}_help" if field.help_text else ""
            field.widget.attrs["aria-describedby"] = f"{described} id_{name}_error".strip()

    def focus(self) -> None:
        """Put the cursor where something is to be done: the first field that is wrong, else the first."""
        wrong = [name for name in self.fields if name in self.errors]
        for name, field in self.fields.items():
            if name == (wrong or list(self.fields))[0]:
                field.widget.attrs["autofocus"] = True
            if name in wrong:
                field.widget.attrs["aria-invalid"] = "true"

    def person_for_validation(self) -> Person:
        """Whose name and display name the password must not resemble."""
        return self._person or Person()

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        password = data.get("password")
        if password:
            if data.get("again") and data["again"] != password:
                self.add_error("again", "The two passwords are not the same.")
            try:
                validate_password(password, self.person_for_validation())
            except ValidationError as error:
                self.add_error("password", error)
        return data


class OperatorForm(PasswordForm):
    """The first operator."""

    username = forms.CharField(
        label="User name",
        max_length=100,
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}),
        help_text="Lower-case letters, digits, '.', '_' and '-'.",
    )
    display_name = forms.CharField(
        label="Your name",
        max_length=150,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
        help_text="What others see. The user name when empty.",
    )
    field_order = ["username", "display_name", "password", "again"]

    def person_for_validation(self) -> Person:
        data = self.cleaned_data
        return Person(username=data.get("username", ""), display_name=data.get("display_name", ""))

    def clean_username(self) -> str:
        name: str = self.cleaned_data["username"].strip()
        if not _NAME.match(name):
            raise ValidationError("Use lower-case letters, digits, '.', '_' and '-'; begin with a letter or digit.")
        if Person.objects.filter(username=name).exists():
            raise ValidationError("Somebody has this name already.")
        service = accounts_homeserver()
        if service is not None and reserved(service, name):
            raise ValidationError("The homeserver keeps this name for Switchboard and its agents. Choose another.")
        return name
