"""The administrator's session on a homeserver: opened once, kept encrypted with the service, opened again when it is refused.

A service's credentials hold either ``admin_token``, or ``admin_user`` and ``admin_password``; the session that was opened with the
latter is kept beside them as ``admin_session`` (``{user_id, access_token, proof}``), so that no process logs in twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar

from django.db import transaction

from agents.matrix.errors import MatrixError, Refused, TokenRefused
from agents.matrix.session_calls import SessionCalls
from ops.models import Service
from ops.secrets import SecretUnreadable

# Always the same, so that the homeserver's list of sessions does not grow.
DEVICE_ID = "SWITCHBOARD_ADMIN"
KEY = "admin_session"
T = TypeVar("T")
_logging_in = Lock()
# Whose a pasted token is: asked once in a process. {sha256 of the token: user id}
_owners: dict[str, str] = {}


class NoAdministrator(Exception):
    """There is no session of an administrator; ``sentence`` says why and what to do."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


@dataclass(frozen=True, slots=True)
class Administrator:
    """Who acts, and with which token. The token is not shown."""

    user_id: str
    token: str

    def __repr__(self) -> str:
        return f"<Administrator {self.user_id}>"


def given_credentials(service: Service) -> frozenset[str]:
    """The names of the credentials that the service has; never their values."""
    try:
        return frozenset(name for name, value in (service.credentials or {}).items() if value)
    except SecretUnreadable:
        # Another check says that the key is missing; nothing can be used meanwhile.
        return frozenset()


def has_administrator(service: Service) -> bool:
    """Whether somebody was named who may administer this homeserver."""
    given = given_credentials(service)
    return "admin_token" in given or {"admin_user", "admin_password"} <= given


def administrator_of(service: Service) -> Administrator:
    """The administrator's session, opened now when there is none.

    Raises ``NoAdministrator``, or ``MatrixError`` when the homeserver does not answer or asks us to wait.
    """
    credentials = dict(service.credentials or {})
    if credentials.get("admin_token"):
        return _with_token(service, str(credentials["admin_token"]))
    if not (credentials.get("admin_user") and credentials.get("admin_password")):
        raise NoAdministrator(
            "No administrator of this homeserver was named. Give its service a token (admin_token), or a name and a password "
            "(admin_user, admin_password)."
        )
    kept = _kept(credentials)
    return kept if kept is not None else _log_in(service, refused="")


def with_administrator(service: Service, action: Callable[[Administrator], T]) -> T:
    """Do something as the administrator; a session that has ended is opened again once. Raises what ``administrator_of`` raises."""
    administrator = administrator_of(service)
    try:
        return action(administrator)
    except TokenRefused as error:
        if (service.credentials or {}).get("admin_token"):
            raise NoAdministrator(
                f"The homeserver does not know the administrator's token any more ({error.code}). Enter a new one (admin_token)."
            ) from error
    return action(_log_in(service, refused=administrator.token))


def _with_token(service: Service, token: str) -> Administrator:
    key = hashlib.sha256(token.encode()).hexdigest()
    if key not in _owners:
        try:
            _owners[key] = _asked(service, lambda calls: calls.whoami(token)[0])
        except TokenRefused as error:
            raise NoAdministrator(
                f"The homeserver does not know the administrator's token ({error.code}). Enter a new one (admin_token)."
            ) from error
    return Administrator(_owners[key], token)


def _log_in(service: Service, *, refused: str) -> Administrator:
    with _logging_in:
        # Somebody else may have opened a session meanwhile: the row is the truth.
        fresh = Service.objects.get(pk=service.pk)
        credentials = dict(fresh.credentials or {})
        edited = _proof(credentials) != _proof(dict(service.credentials or {}))
        if edited and fresh.updated_at == service.updated_at:
            raise NoAdministrator("Whether this administrator gets in shows when the service is saved.")
        kept = _kept(credentials)
        if kept is not None and kept.token != refused:
            service.credentials = fresh.credentials
            return kept
        user, password = str(credentials.get("admin_user") or ""), str(credentials.get("admin_password") or "")
        if not user or not password:
            raise NoAdministrator("The administrator was taken out of the homeserver's service meanwhile.")
        try:
            opened = _asked(fresh, lambda calls: calls.login(user, password, DEVICE_ID))
        except Refused as error:
            raise NoAdministrator(_why(user, error)) from error
        session = {"user_id": opened.user_id, "access_token": opened.token, "proof": _proof(credentials)}
        with transaction.atomic():
            row = Service.objects.select_for_update().get(pk=fresh.pk)
            row.credentials = {**dict(row.credentials or {}), KEY: session}
            # Nothing that an operator configured has changed, so ``updated_at`` stays.
            Service.objects.filter(pk=row.pk).update(credentials=row.credentials)
        service.credentials = row.credentials
        return Administrator(opened.user_id, opened.token)


def _asked(service: Service, question: Callable[[SessionCalls], T]) -> T:
    calls = SessionCalls(service.base_url)
    try:
        return question(calls)
    finally:
        calls.close()


def _kept(credentials: dict[str, Any]) -> Administrator | None:
    session = credentials.get(KEY)
    if not isinstance(session, dict) or session.get("proof") != _proof(credentials):
        return None
    token, user_id = session.get("access_token"), session.get("user_id")
    return Administrator(user_id, token) if isinstance(token, str) and isinstance(user_id, str) and token else None


def _proof(credentials: dict[str, Any]) -> str:
    """Changes with the name and the password: a session of somebody else's is not used."""
    said = f"{credentials.get('admin_user')}\0{credentials.get('admin_password')}"
    return hashlib.sha256(said.encode()).hexdigest()[:24]


def _why(user: str, error: MatrixError) -> str:
    if error.errcode == "M_FORBIDDEN":
        return f"The homeserver does not let the administrator {user} in: {error.message} Correct admin_user and admin_password."
    if error.errcode == "M_UNRECOGNIZED" or error.status == 404:
        return "This homeserver has no login with a password. Give its service a token of an administrator instead (admin_token)."
    return f"The administrator {user} cannot log in: {error.sentence}"
