"""Who is asking, and by what right: a browser's session, a program's sign-in, or a personal token.

An identity is kept for as long as a socket or a stream is open, so it is asked again and again whether it still counts; for many at
once with a constant number of queries.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from uuid import UUID

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.models import Session
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone

from chat.access.looking import impersonation_of
from chat.models import Impersonation, Person, ProgramLogin
from ops.models import ApiToken

# Parameters of one query; SQLite takes a limited number.
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Identity:
    """A person, the epoch of their access, and one of: ``session_key``, ``login_id``, ``token_id``.

    ``impersonator`` is the actor who looks through this person's eyes ("" for the person themselves).
    """

    person_id: int
    username: str
    epoch: int
    session_key: str = ""
    login_id: UUID | None = None
    token_id: int | None = None
    impersonator: str = ""

    @property
    def actor(self) -> str:
        """What the audit log shows."""
        return self.impersonator or f"person:{self.username}"


def impersonator_text(operator: str, person: str) -> str:
    """The actor of an operator who looks through a person's eyes."""
    return f"person:{operator} as person:{person}"


def identity_of_session(request: HttpRequest) -> Identity | None:
    """The identity of the signed-in browser, through whose eyes it looks included; ``None`` for somebody who is not signed in."""
    person = request.user
    if not isinstance(person, Person) or not person.is_active:
        return None
    looks = getattr(request, "impersonation", None)
    seen = looks is not None and looks.person_id == person.pk
    impersonator = impersonator_text(looks.operator.get_username(), person.get_username()) if looks and seen else ""
    return Identity(
        person.pk,
        person.get_username(),
        person.access_epoch,
        session_key=request.session.session_key or "",
        impersonator=impersonator,
    )


def identity_of_session_key(key: str) -> Identity | None:
    """The identity of the browser that has this session, as its own requests would show it; ``None`` when it has ended."""
    if not key:
        return None
    request = HttpRequest()
    store: type[SessionBase] = import_module(settings.SESSION_ENGINE).SessionStore
    request.session = store(key)
    request.user = get_user(request)
    looks = impersonation_of(request)
    if looks is not None:
        request.user = looks.person
        request.impersonation = looks  # type: ignore[attr-defined]
    return identity_of_session(request)


def still_valid(identities: Iterable[Identity]) -> set[Identity]:
    """Those of many identities that still count: person active, epoch unchanged, and session, sign-in or token not ended."""
    asked = list(set(identities))
    valid: set[Identity] = set()
    for begin in range(0, len(asked), _AT_ONCE):
        valid |= _valid(asked[begin : begin + _AT_ONCE])
    return valid


def _valid(asked: list[Identity]) -> set[Identity]:
    now = timezone.now()
    epochs = dict(
        Person.objects.filter(pk__in={one.person_id for one in asked}, is_active=True).values_list("pk", "access_epoch")
    )
    keys = {one.session_key for one in asked if one.session_key}
    sessions = (
        set(Session.objects.filter(session_key__in=keys, expire_date__gt=now).values_list("session_key", flat=True))
        if keys
        else set()
    )
    ids = {one.login_id for one in asked if one.login_id}
    logins = (
        set(ProgramLogin.objects.filter(pk__in=ids, revoked_at=None, expires_at__gt=now).values_list("pk", flat=True))
        if ids
        else set()
    )
    numbers = {one.token_id for one in asked if one.token_id}
    unexpired = Q(expires_at=None) | Q(expires_at__gt=now)
    tokens = (
        set(ApiToken.objects.filter(unexpired, pk__in=numbers, revoked_at=None).values_list("pk", flat=True))
        if numbers
        else set()
    )

    looked = {one.session_key for one in asked if one.impersonator}
    looks = (
        set(
            Impersonation.objects.filter(
                session_key__in=looked,
                ended_at=None,
                expires_at__gt=now,
                operator__is_active=True,
                operator__is_staff=True,
            ).values_list("session_key", "person_id")
        )
        if looked
        else set()
    )

    def counts(one: Identity) -> bool:
        if epochs.get(one.person_id) != one.epoch:
            return False
        if one.impersonator and (one.session_key, one.person_id) not in looks:
            return False
        if one.session_key:
            return one.session_key in sessions
        if one.login_id:
            return one.login_id in logins
        return one.token_id is not None and one.token_id in tokens

    return {one for one in asked if counts(one)}
