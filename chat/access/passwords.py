"""Who a name and a password belong to. Unknown and known names cost the same: one search, one password hash."""

from __future__ import annotations

from typing import Any, Literal

from allauth.account.auth_backends import AuthenticationBackend
from allauth.account.models import EmailAddress
from django.contrib.auth.backends import ModelBackend
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from chat.models import Person

Outcome = Literal["ok", "unknown", "wrong_password", "inactive"]
_LONGEST = 254
_LONGEST_PASSWORD = 4096


def find_person(login: str) -> Person | None:
    """The person with this user name or e-mail address.

    A proven address wins over unproven ones; an unproven one that several people gave is nobody's.
    """
    login = login.strip()
    if not login or len(login) > _LONGEST or "\x00" in login:
        return None
    named = {person.username: person for person in Person.objects.filter(username__in={login, login.lower()})}
    if named:
        return named.get(login) or named[login.lower()]
    address = login.lower()
    rows = list(EmailAddress.objects.filter(email=address).select_related("user")[:10])
    proven = [row.user for row in rows if row.verified]
    # People of before have their address beside them only.
    people = proven or list(Person.objects.filter(email__iexact=address)[:2]) if "@" in address else []
    return people[0] if len(people) == 1 else None


def check(login: str, password: str) -> tuple[Person | None, Outcome]:
    """Who it is, and whether the password is theirs; a person comes with every outcome but ``unknown``."""
    password = password[:_LONGEST_PASSWORD]
    person = find_person(login)
    if person is None:
        Person().set_password(password)
        return None, "unknown"
    if not person.check_password(password):
        return person, "wrong_password"
    return person, "ok" if person.is_active else "inactive"


class PersonBackend(ModelBackend):
    """Signs people in by name or e-mail. Nobody after it is asked: that would cost known names more than unknown ones."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        email: str | None = None,
        **other: Any,
    ) -> Person | None:
        """The person. Raises ``PermissionDenied`` when it is nobody who may sign in."""
        login = username or email
        if not login or password is None:
            return None
        person, outcome = check(login, password)
        if outcome == "ok":
            return person
        if outcome == "inactive":
            # allauth shows whoever knows the password that the account is closed.
            AuthenticationBackend._stash_user(person)
        raise PermissionDenied
