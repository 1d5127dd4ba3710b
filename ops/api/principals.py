"""Who calls the API: an operator's token, or the operator who is signed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model
from django.http import HttpRequest
from django.utils import timezone
from ninja.security import APIKeyCookie, HttpBearer

from ops.api.problems import AUTH_CSRF, AUTH_SCOPE, Problem
from ops.csrf import csrf_problem
from ops.models import ApiToken, TokenScope
from ops.services.tokens import token_authenticate

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller. ``actor`` is what the audit log shows; ``key`` is unique, and never shown."""

    actor: str
    key: str
    person: Any
    scope: str
    token: ApiToken | None = None
    session_key: str = ""

    def is_still_valid(self) -> bool:
        """Asks the database again, for answers that stay open: a revoked token or an ended session closes them."""
        people = get_user_model()._default_manager
        if self.token is not None:
            token = ApiToken.objects.select_related("owner").filter(pk=self.token.pk).first()
            return token is not None and token.is_usable() and _is_operator(token.owner)
        person = people.filter(pk=self.person.pk).first()
        if person is None or not _is_operator(person):
            return False
        return not self.session_key or _session_lives(self.session_key)


def _session_lives(key: str) -> bool:
    from django.contrib.sessions.models import Session

    return Session.objects.filter(session_key=key, expire_date__gt=timezone.now()).exists()


def _is_operator(person: Any) -> bool:
    return bool(person.is_active and person.is_staff)


def principal_of(request: HttpRequest) -> Principal:
    """The caller of an authenticated request."""
    principal: Principal = request.auth  # type: ignore[attr-defined]
    return principal


def by_token(plaintext: str) -> Principal | None:
    """The owner of a valid token, who must be an operator; ``None`` for every kind of wrong token.

    A personal token (scope ``chat``) operates nothing, even one of an operator.
    """
    token = token_authenticate(plaintext)
    if token is None or token.scope == TokenScope.CHAT or not _is_operator(token.owner):
        return None
    return Principal(f"token:{token.name}", f"token:{token.prefix}", token.owner, token.scope, token)


def require_scope(request: HttpRequest, principal: Principal) -> Principal:
    """Everything but reading needs a token that may write. Raises ``Problem``."""
    if request.method not in SAFE_METHODS and principal.scope != TokenScope.WRITE:
        raise Problem(AUTH_SCOPE, "This token may only read. Make one with the scope 'write' for this.")
    return principal


class BearerToken(HttpBearer):
    """``Authorization: Bearer swb_…``"""

    def authenticate(self, request: HttpRequest, token: str) -> Principal | None:
        principal = by_token(token.strip())
        return require_scope(request, principal) if principal is not None else None


class OperatorSession(APIKeyCookie):
    """The admin's session. Anything but reading needs the CSRF token (``X-CSRFToken``) as well."""

    def __init__(self) -> None:
        from django.conf import settings

        self.param_name = settings.SESSION_COOKIE_NAME
        super().__init__(csrf=True)

    def __call__(self, request: HttpRequest) -> Principal | None:
        # A wrong token is a wrong token, even from a browser that is signed in.
        if "Authorization" in request.headers or self.param_name not in request.COOKIES:
            return None
        return self.authenticate(request, None)

    def authenticate(self, request: HttpRequest, key: str | None) -> Principal | None:
        person: Any = request.user
        if not person.is_authenticated or not _is_operator(person):
            return None
        if request.method not in SAFE_METHODS and csrf_problem(request):
            raise Problem(AUTH_CSRF, "Send the CSRF token of your session in the header X-CSRFToken.")
        name = f"person:{person.get_username()}"
        return Principal(name, name, person, TokenScope.WRITE, session_key=request.session.session_key or "")
