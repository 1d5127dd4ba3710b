"""``/api/auth/…``: programs join, sign in, refresh and sign out, in the shapes of Portagent (see docs/programs.md).

Nothing here reads or sets a cookie, so there is nothing that a page of another site could make a browser do in somebody's name.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from allauth.mfa.models import Authenticator
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from chat.access import attempts, limits, registration
from chat.access.client import address_of, user_agent_of
from chat.access.programs import identity_of_bearer
from chat.access.signing_in import sign_in_check
from chat.api.sign_in_shapes import (
    Refused,
    bearer_of,
    body_of,
    kept_nowhere,
    refusal,
    text_of,
    tokens_json,
    user_json,
)
from chat.models import AttemptKind, Person, ProgramLogin
from chat.services.joining import JoinRefused, person_register
from chat.services.people import person_profile_save
from chat.services.program_logins import RefreshRefused, login_end, login_open, login_refresh
from ops.api.answers import answer

VERSION = "0.1.0"
_LONGEST_AVATAR = 2048

View = Callable[[HttpRequest], HttpResponse]


def _program(*methods: str) -> Callable[[View], View]:
    def decorate(view: View) -> View:
        @wraps(view)
        def call(request: HttpRequest) -> HttpResponse:
            try:
                if request.method not in methods:
                    refused = Refused(405, "Method not allowed")
                    refused.headers["Allow"] = ", ".join(methods)
                    raise refused
                return kept_nowhere(view(request))
            except limits.Limited as limited:
                refused = Refused(429, "Too many attempts", retryAfter=limited.retry_after)
                refused.headers["Retry-After"] = str(limited.retry_after)
                return refusal(refused)
            except Refused as error:
                return refusal(error)

        return csrf_exempt(call)

    return decorate


@_program("GET", "HEAD")
def config(request: HttpRequest) -> HttpResponse:
    """Who may join."""
    mode = registration.mode()
    return answer({"inviteCodeRequired": mode != "open", "registration": mode})


@_program("GET", "HEAD")
def info(request: HttpRequest) -> HttpResponse:
    """Where the socket is. The version is that of Portagent's protocol."""
    return answer({"version": VERSION, "wsPath": "/ws"})


@_program("POST")
def register(request: HttpRequest) -> HttpResponse:
    """Join, and sign in."""
    body = body_of(request)
    username, password = text_of(body, "username", needed=True), text_of(body, "password", needed=True)
    code, avatar = text_of(body, "inviteCode"), text_of(body, "avatar")
    address = address_of(request)
    guess = _take("invite", AttemptKind.INVITE, request, address, username) if code else None
    _take("register", AttemptKind.REGISTER, request, address, username)
    try:
        person = person_register(
            username=username,
            password=password,
            email=text_of(body, "email"),
            display_name=text_of(body, "displayName"),
            invite=code,
            actor=f"person:{username}",
        )
    except JoinRefused as error:
        kind = AttemptKind.REGISTER if error.reason == "closed" else AttemptKind.INVITE
        attempts.note(kind, error.reason, name=username, invite=error.invite, request=request)
        if error.reason == "closed":
            raise Refused(403, "Registration is closed") from None
        raise Refused(400, "Invalid invite code") from None
    except ValidationError as error:
        # What was typed is wrong, not who typed it; the code was right.
        if guess is not None:
            guess.give_back()
        attempts.note(AttemptKind.REGISTER, "invalid", name=username, request=request)
        raise Refused(400, _sentence(error, username)) from None
    if guess is not None:
        guess.give_back()
    actor = f"person:{person.get_username()}"
    if avatar and len(avatar) <= _LONGEST_AVATAR:
        person.preferences = {**person.preferences, "avatar": avatar}
        person_profile_save(person=person, changed=["preferences"], actor=actor)
    attempts.note(AttemptKind.REGISTER, "ok", name=username, person=person, request=request)
    return answer(_opened(request, person), status=201)


@_program("POST")
def login(request: HttpRequest) -> HttpResponse:
    """Sign in with a name or an e-mail address, a password, and a code where there is a second factor."""
    body = body_of(request)
    name = text_of(body, "usernameOrEmail") or text_of(body, "username") or text_of(body, "email")
    password = text_of(body, "password", needed=True)
    if not name:
        raise Refused(400, "usernameOrEmail is required")
    person, outcome = sign_in_check(request, name, password)
    if outcome != "ok" or person is None:
        raise Refused(401, "Invalid credentials")
    _second_factor(request, person, text_of(body, "code"))
    attempts.note(AttemptKind.SIGN_IN, "ok", name=name, person=person, request=request)
    return answer(_opened(request, person))


@_program("POST")
def refresh(request: HttpRequest) -> HttpResponse:
    """New tokens for a refresh token, which counts no more."""
    token = text_of(body_of(request), "refreshToken", needed=True)
    try:
        return answer(tokens_json(login_refresh(refresh_token=token)))
    except RefreshRefused as error:
        if error.login is not None:
            attempts.note(AttemptKind.TOKEN, error.code, person=error.login.person, request=request)
        raise Refused(401, "Invalid or expired refresh token") from None


@_program("GET", "HEAD", "POST")
def verify(request: HttpRequest) -> HttpResponse:
    """Whether a token counts, and whose it is."""
    identity = identity_of_bearer(bearer_of(request))
    person = Person.objects.filter(pk=identity.person_id).first() if identity is not None else None
    if person is None:
        raise Refused(401, "Invalid or expired token", valid=False)
    return answer({"valid": True, "user": user_json(person)})


@_program("POST")
def logout(request: HttpRequest) -> HttpResponse:
    """End the sign-in of the access token, or of ``refreshToken``. A token that counts no more needs no ending."""
    identity = identity_of_bearer(bearer_of(request))
    row = None
    if identity is not None and identity.login_id is not None:
        row = ProgramLogin.objects.select_related("person").filter(pk=identity.login_id).first()
    # Portagent's clients send no body.
    token = text_of(body_of(request), "refreshToken") if request.content_type == "application/json" else ""
    if row is None and token:
        try:
            # Whoever holds the present one may end the sign-in; an old one that comes back ends it anyway.
            row = login_refresh(refresh_token=token).login
        except RefreshRefused:
            row = None
    if row is not None:
        login_end(login=row, reason="signed out", actor=f"person:{row.person.get_username()}")
    return answer({"success": True})


def _opened(request: HttpRequest, person: Person) -> dict[str, object]:
    tokens = login_open(
        person=person,
        address=address_of(request),
        user_agent=user_agent_of(request),
        actor=f"person:{person.get_username()}",
    )
    return tokens_json(tokens)


def _take(action: str, kind: AttemptKind, request: HttpRequest, address: str, name: str) -> limits.Taken:
    try:
        return limits.take(action, address=address)
    except limits.Limited:
        attempts.note(kind, attempts.LIMITED, name=name, request=request)
        raise


def _second_factor(request: HttpRequest, person: Person, code: str) -> None:
    factors = list(Authenticator.objects.filter(user=person))
    if not any(factor.type == Authenticator.Type.TOTP for factor in factors):
        return
    if not code:
        raise Refused(401, "Two-factor code required", code="two_factor_required")
    try:
        taken = limits.take("code", address=address_of(request), account=str(person.pk))
    except limits.Limited:
        attempts.note(AttemptKind.SIGN_IN, attempts.LIMITED, name=person.get_username(), person=person, request=request)
        raise
    for factor in factors:
        # Passkeys need a browser.
        if factor.type != Authenticator.Type.WEBAUTHN and factor.wrap().validate_code(code.strip()):
            factor.refresh_from_db()
            factor.record_usage()
            taken.give_back()
            return
    attempts.note(AttemptKind.SIGN_IN, "wrong_code", name=person.get_username(), person=person, request=request)
    raise Refused(401, "Invalid two-factor code", code="two_factor_invalid")


def _sentence(error: ValidationError, username: str) -> str:
    fields = error.message_dict if hasattr(error, "error_dict") else {"": error.messages}
    if "username" in fields and Person.objects.filter(username__iexact=username.strip()).exists():
        return f"Username '{username.strip()}' already exists"
    return " ".join(sentence for sentences in fields.values() for sentence in sentences)
