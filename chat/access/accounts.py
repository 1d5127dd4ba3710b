"""What django-allauth asks us: who may try, how passwords are set, where links lead, how secrets are kept."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.auth_backends import AuthenticationBackend
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.usersessions.adapter import DefaultUserSessionsAdapter
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import authenticate
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from chat.access import attempts, devices, limits
from chat.access.client import UNKNOWN, address_of
from chat.access.names import clean_email
from chat.access.passwords import find_person
from chat.access.signing_in import take_sign_in, wait_sentence
from chat.models import AttemptKind, Person
from chat.services.email_addresses import confirmation_link
from chat.services.people import person_set_password
from chat.services.sessions import session_end
from ops.logs import get_logger
from ops.secrets import seal_text, unseal_text

log = get_logger(__name__)


class AccountAdapter(DefaultAccountAdapter):
    """allauth's account part, on our limits, services and words."""

    error_messages = {
        **DefaultAccountAdapter.error_messages,
        "username_password_mismatch": gettext_lazy("The name or the password is not right."),
        "email_password_mismatch": gettext_lazy("The name or the password is not right."),
        "invalid_login": gettext_lazy("The name or the password is not right."),
        "incorrect_password": gettext_lazy("The password is not right."),
        "enter_current_password": gettext_lazy("This is not your present password."),
        "incorrect_code": gettext_lazy("The code is not right, or was used already. Wait for the next one."),
        "too_many_login_attempts": gettext_lazy("Too many attempts. Wait ten minutes, then try again."),
        "rate_limited": gettext_lazy("Too many attempts. Wait a few minutes, then try again."),
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Joining has a page of its own."""
        return False

    def get_client_ip(self, request: HttpRequest) -> str:
        return address_of(request) or UNKNOWN

    def is_safe_url(self, url: str | None) -> bool:
        """Only addresses of this very site: other hosts that Django would answer for are no goals of a redirect."""
        host = self.request.get_host() if self.request is not None else None
        secure = self.request is not None and self.request.is_secure()
        return url_has_allowed_host_and_scheme(url, allowed_hosts={host} if host else None, require_https=secure)

    def authenticate(self, request: HttpRequest, **credentials: Any) -> Any:
        """The person whose name and password it is, else ``None``. Raises ``ValidationError`` for who tried too often."""
        login = str(credentials.get("username") or credentials.get("email") or "")
        try:
            taken = take_sign_in(request, login)
        except limits.Limited as limited:
            request.limited = limited  # type: ignore[attr-defined]
            raise ValidationError(wait_sentence(limited), code="limited") from None
        AuthenticationBackend.unstash_authenticated_user()
        person = authenticate(request, **credentials)
        closed = AuthenticationBackend.unstash_authenticated_user()
        if person is not None:
            taken.give_back()
            return person
        if closed is not None:
            attempts.note(AttemptKind.SIGN_IN, "inactive", name=login, person=closed, request=request)
            return closed
        known = find_person(login)
        outcome = "wrong_password" if known is not None else "unknown"
        attempts.note(AttemptKind.SIGN_IN, outcome, name=login, person=known, request=request)
        return None

    def post_login(self, request: HttpRequest, user: Any, **hooks: Any) -> HttpResponse:
        response: HttpResponse = super().post_login(request, user, **hooks)
        signed_in(request, response, user)
        return response

    def set_password(self, user: Any, password: str) -> None:
        signed_in_here = self.request is not None and self.request.user == user
        keep = (self.request.session.session_key or "") if signed_in_here else ""
        actor = f"person:{user.get_username()}" if signed_in_here else "reset_link"
        person_set_password(person=user, password=password, keep_session=keep, actor=actor)

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:
        return reverse("profile")

    def clean_email(self, email: str) -> str:
        return clean_email(email)

    def get_email_verification_redirect_url(self, email_address: Any) -> str:
        return reverse("profile") if self.request.user.is_authenticated else reverse("account_login")

    def get_reset_password_from_key_url(self, key: str) -> str:
        """Below PUBLIC_URL, whatever host the request named."""
        uid, _sep, token = key.partition("-")
        return settings.PUBLIC_URL + reverse("account_reset_password_from_key", kwargs={"uidb36": uid, "key": token})

    def get_email_confirmation_url(self, request: HttpRequest, emailconfirmation: Any) -> str:
        return confirmation_link(emailconfirmation.email_address)

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Send it, or say why not: a page must not fail because a mail server does."""
        if not settings.MAIL:
            return
        try:
            super().send_mail(template_prefix, email, context)
        except OSError as error:  # smtplib's errors are among them
            log.warning("mail.not_sent", error=type(error).__name__, mail=template_prefix)
            told = _("The mail to %(address)s could not be sent now. Try again later, or ask an operator.")
            messages.warning(self.request, told % {"address": email})


class TwoFactorAdapter(DefaultMFAAdapter):
    """allauth's second factor: its secrets are encrypted as all others are."""

    error_messages = {
        **DefaultMFAAdapter.error_messages,
        "incorrect_code": AccountAdapter.error_messages["incorrect_code"],
    }

    def encrypt(self, text: str) -> str:
        return seal_text(text)

    def decrypt(self, encrypted_text: str) -> str:
        return unseal_text(encrypted_text)

    def get_totp_label(self, user: Any) -> str:
        return str(user.get_username())


class SessionsAdapter(DefaultUserSessionsAdapter):
    """Ending browsers goes through our service, which ends their sockets too."""

    def end_sessions(self, sessions: Any) -> None:
        for session in sessions:
            session_end(session=session, actor=f"person:{session.user.get_username()}")


def signed_in(request: HttpRequest, response: HttpResponse, person: Person) -> None:
    """What every sign-in in a browser leaves: a note, and the cookie by which the browser knows the person."""
    attempts.note(AttemptKind.SIGN_IN, "ok", name=person.get_username(), person=person, request=request)
    devices.remember(request, response, person)
