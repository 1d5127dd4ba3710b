"""Ends one thing that a person has open, whatever kind it is: a browser, a program, a token."""

from __future__ import annotations

from uuid import UUID

from allauth.usersessions.models import UserSession

from chat.models import Person, ProgramLogin
from chat.services.program_logins import login_end
from chat.services.sessions import access_ended, session_end
from ops.models import ApiToken
from ops.services.tokens import token_revoke

KINDS = ("browser", "program", "token")


class NothingOpen(Exception):
    """There is no such thing, or it ended already."""

    code = "resource.not_found"

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


def open_end(*, person: Person, kind: str, key: str, actor: str) -> str:
    """End it, and what it opened; returns a word for it. Raises ``NothingOpen``, also for what is somebody else's."""
    if kind == "browser" and key.isdigit():
        session = UserSession.objects.select_related("user").filter(user=person, pk=int(key)).first()
        if session is not None:
            session_end(session=session, actor=actor)
            return "The browser"
    elif kind == "program":
        known = _uuid(key)
        login = ProgramLogin.objects.filter(person=person, pk=known).first() if known is not None else None
        if login is not None and login_end(login=login, reason="ended by an operator", actor=actor):
            return "The program"
    elif kind == "token" and key.isdigit():
        token = ApiToken.objects.filter(owner=person, pk=int(key), revoked_at=None).first()
        if token is not None:
            token_revoke(token=token, actor=actor)
            access_ended(person.pk)
            return "The token"
    raise NothingOpen("That has ended already.")


def _uuid(key: str) -> UUID | None:
    try:
        return UUID(key)
    except ValueError:
        return None
