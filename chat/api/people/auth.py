"""Who calls the API of people: a signed-in browser, a program's access token, or a personal token.

A right of its own, apart from the operators': these doors open nothing outside ``/api/v1/chat``, and an operator's token opens nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.http import HttpRequest
from ninja.security import APIKeyCookie, HttpBearer

from chat.access.identity import Identity, identity_of_session, still_valid
from chat.access.programs import identity_of_bearer
from chat.models import Person
from ops.api.principals import SAFE_METHODS
from ops.api.problems import AUTH_CSRF, Problem, unauthorized
from ops.csrf import csrf_problem

HOW_TO_SIGN_IN = "Sign in on the page, or send an access token or a personal token as 'Authorization: Bearer …'."


@dataclass(frozen=True, slots=True)
class Caller:
    """A person who calls. ``key`` keeps their repeated requests apart from everybody else's, and is never shown."""

    identity: Identity
    person: Person

    @property
    def actor(self) -> str:
        """What the audit log shows."""
        return self.identity.actor

    @property
    def key(self) -> str:
        return f"chat:{self.identity.person_id}"

    def is_still_valid(self) -> bool:
        """Asks the database again, for answers that stay open."""
        return self.identity in still_valid([self.identity])


def caller_of(request: HttpRequest) -> Caller:
    """The caller of an authenticated request."""
    caller: Caller = request.auth  # type: ignore[attr-defined]
    return caller


class PersonBearer(HttpBearer):
    """``Authorization: Bearer …`` with an access token of ``/api/auth`` or a personal token (scope ``chat``)."""

    openapi_name = "PersonBearer"

    def authenticate(self, request: HttpRequest, token: str) -> Caller | None:
        identity = identity_of_bearer(token.strip())
        if identity is None:
            return None
        person = Person.objects.filter(pk=identity.person_id, is_active=True).first()
        return None if person is None else Caller(identity, person)


class PersonSession(APIKeyCookie):
    """The session of the page. Anything but reading needs the CSRF token (``X-CSRFToken``) as well.

    Comes last: whoever has no right until here is told how to get one.
    """

    openapi_name = "PersonSession"

    def __init__(self) -> None:
        self.param_name = settings.SESSION_COOKIE_NAME
        super().__init__(csrf=True)

    def __call__(self, request: HttpRequest) -> Caller:
        # A wrong token is a wrong token, even from a browser that is signed in.
        caller = None if "Authorization" in request.headers else self.authenticate(request, None)
        if caller is None:
            raise unauthorized(HOW_TO_SIGN_IN)
        return caller

    def authenticate(self, request: HttpRequest, key: str | None) -> Caller | None:
        identity = identity_of_session(request)
        if identity is None or not isinstance(request.user, Person):
            return None
        if request.method not in SAFE_METHODS and csrf_problem(request):
            raise Problem(AUTH_CSRF, "Send the CSRF token of your session in the header X-CSRFToken.")
        return Caller(identity, request.user)
