"""What the pages of accounts ask for."""

from __future__ import annotations

from typing import Any

from allauth.account.forms import LoginForm
from django import forms
from django.utils.translation import gettext_lazy as _

from chat.access.names import LONGEST, LONGEST_EMAIL, LONGEST_SHOWN
from chat.services.joining import LONGEST_PASSWORD


def password_field(label: Any, *, new: bool = False, help_text: Any = "") -> forms.CharField:
    """A field for a password, present or new."""
    return forms.CharField(
        label=label,
        strip=False,
        max_length=LONGEST_PASSWORD,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password" if new else "current-password"}),
        help_text=help_text,
    )


class SignInForm(LoginForm):
    """A name or an e-mail address, and the password."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["login"] = forms.CharField(
            label=_("User name or e-mail"),
            max_length=LONGEST_EMAIL,
            widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}),
        )
        self.fields["password"] = password_field(_("Password"))
        self.order_fields(["login", "password"])


class JoinForm(forms.Form):
    """Joining: the invitation, and who somebody is. What the values mean is judged by the service."""

    code = forms.CharField(
        label=_("Invitation code"),
        max_length=200,
        required=False,
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "characters", "spellcheck": "false", "class": "mono"}
        ),
        help_text=_("Groups of four characters. Capitals and dashes do not matter."),
    )
    username = forms.CharField(
        label=_("User name"),
        max_length=LONGEST,
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}),
        help_text=_("With it you sign in. Letters a to z, digits, '.', '_' and '-'."),
    )
    display_name = forms.CharField(
        label=_("Your name"),
        max_length=LONGEST_SHOWN,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
        help_text=_("What agents and others call you. The user name when empty."),
    )
    email = forms.CharField(
        label=_("E-mail"),
        max_length=LONGEST_EMAIL,
        required=False,
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
        help_text=_("To sign in with it, and for a new password if you forget yours."),
    )
    password = password_field(
        _("Password"), new=True, help_text=_("At least 8 characters, not a common one, not digits only.")
    )
