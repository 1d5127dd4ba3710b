"""How people sign in: settings of django-allauth and of mail. Our own limits (``chat.access.limits``) stand before allauth's."""

from __future__ import annotations

from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

from controlplane.env import Problem

AUTHENTICATION_BACKENDS = [
    # Finds by name or e-mail with the same work for known and unknown; a refusal of its is final.
    "chat.access.passwords.PersonBackend",
    # The proof in sessions of before names this one.
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
# A link for a new password counts for a day.
PASSWORD_RESET_TIMEOUT = 24 * 3600

ACCOUNT_ADAPTER = "chat.access.accounts.AccountAdapter"
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email", "password1*"]
ACCOUNT_USERNAME_MIN_LENGTH = 3
ACCOUNT_EMAIL_VERIFICATION = "optional"
ACCOUNT_CHANGE_EMAIL = True
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS = False
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_REAUTHENTICATION_METHODS = ["password", "mfa"]
ACCOUNT_RATE_LIMITS = {
    "login": None,
    "reset_password": None,
    # Codes of the second factor: only who knows the password gets as far as this.
    "login_failed": "6/600s/key",
}
ACCOUNT_FORMS = {"login": "chat.portal.people_forms.SignInForm"}

MFA_ADAPTER = "chat.access.accounts.TwoFactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_TOTP_ISSUER = "Switchboard"
USERSESSIONS_ADAPTER = "chat.access.accounts.SessionsAdapter"
# Every request would write a row; ``chat.access.browsers`` notes it once a minute.
USERSESSIONS_TRACK_ACTIVITY = False

_TIMEOUT = 15


def mail_settings(url: str, sender: str, public_host: str, problems: list[Problem]) -> dict[str, Any]:
    """Django's settings of mail. ``MAIL`` says whether a server is set; an address that cannot be used becomes a problem."""
    config: dict[str, Any] = {}
    if url:
        try:
            config = dict(environ.Env.email_url_config(url))
        except (ImproperlyConfigured, ValueError):
            # The address holds a password, so it is not quoted.
            sentence = "EMAIL_URL is not valid: it begins with smtp://, smtp+tls:// or smtp+ssl://."
            problems.append(Problem("switchboard.E001", "error", sentence, name="EMAIL_URL"))
    mail = bool(config)
    if not mail:
        config = {"EMAIL_BACKEND": "django.core.mail.backends.dummy.EmailBackend"}
    host = public_host if "." in public_host and not public_host.replace(".", "").isdigit() else "localhost"
    sender = sender or f"switchboard@{host}"
    return {**config, "MAIL": mail, "EMAIL_TIMEOUT": _TIMEOUT, "DEFAULT_FROM_EMAIL": sender, "SERVER_EMAIL": sender}
