"""Portagent's users become people: names that are free here, passwords as they were stored, nothing that was not theirs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from chat.access.hashers import of_portagent
from chat.portagent.rows import SourceRow, storable, time_of

_PLACEHOLDER = "@noemail.portagent"
_LONGEST_NAME = 100


@dataclass(slots=True)
class PersonPlan:
    """A person to be made, or (``person_id``) one of ours whom the user is."""

    username: str
    email: str
    display_name: str
    avatar: str
    password: str | None
    active: bool
    operator: bool
    joined: datetime | None
    changed: datetime | None
    containers: tuple[str, ...] = ()
    person_id: int | None = None
    notes: list[tuple[str, str]] = field(default_factory=list)


class UserBroken(Exception):
    """The user cannot be imported; (code, sentence)."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code, self.sentence = code, sentence


class Names:
    """Which user names are taken: by people who are here, and by users of this import. ``here``: whether a name (any case) is ours."""

    def __init__(self, here: Any) -> None:
        self._here = here
        self._given: set[str] = set()
        self._folded: set[str] = set()

    def choose(self, wanted: str) -> tuple[str, str]:
        """(a free name, "" or why it is another one: ``here`` or ``case``). The first to come gets the plain one."""
        plain = wanted.lower()
        if plain not in self._folded and not self._here(plain):
            return self._take(plain), ""
        if plain in self._folded and wanted not in self._given and not self._here(wanted, exact=True):
            # Portagent took Ada and ada for two people; as it is written it still is this one's.
            return self._take(wanted), "case"
        for number in range(2, 10_000):
            other = f"{plain[: _LONGEST_NAME - 6]}-{number}"
            if other not in self._folded and not self._here(other):
                return self._take(other), "here"
        raise UserBroken("portagent.name_taken", f"No name like {wanted} is free.")

    def _take(self, name: str) -> str:
        self._given.add(name)
        self._folded.add(name.lower())
        return name


def person_plan(row: SourceRow, names: Names, *, match: Any = None, operators: bool = False) -> PersonPlan:
    """What becomes of a user. ``match(name, email)`` finds a person of ours who is the same. Raises ``UserBroken``."""
    raw = row.raw
    second = "password_hash" in raw
    email, email_note = _email(raw.get("email"))
    given = _plain(raw.get("email") if second else raw.get("username")).strip()
    if not row.key or row.key == "None":
        raise UserBroken("portagent.no_id", "A user without an id.")
    if not given:
        raise UserBroken("portagent.no_name", f"User {row.key} has neither a name nor an e-mail address.")
    notes = [email_note] if email_note else []
    containers = tuple(dict.fromkeys([_plain(raw.get("containerId"))[:255], f"user-{row.key}"[:255]]))
    known = match(given if not second else "", email) if match is not None else None
    if known is not None:
        notes.append(("portagent.matched", f"{given} is {known[1]} here; their password and profile stay as they are."))
        return PersonPlan(known[1], "", "", "", None, True, False, None, None, containers, known[0], notes)
    name, why = names.choose(_from_email(given) if second else given[:_LONGEST_NAME])
    if why == "case":
        notes.append(
            ("portagent.name_case", f"{name} differs from another user's name only by capitals; it is kept as written.")
        )
    elif why:
        notes.append(("portagent.name_taken", f"The name {given} is taken here; this person is called {name} now."))
    elif second:
        notes.append(
            ("portagent.name_made", f"{given} is called {name} here, and signs in with that or with the address.")
        )
    password = of_portagent(_plain(raw.get("password_hash" if second else "passwordHash")))
    if password is None:
        notes.append(
            ("portagent.password_unknown", f"{name}'s password is stored in an unknown form. Send them a reset link.")
        )
    active = second or bool(raw.get("isActive", 1))
    admin = second and raw.get("role") == "admin"
    if admin and not operators:
        notes.append(
            (
                "portagent.admin",
                f"{name} was an administrator there and is no operator here. Make them one, if you wish.",
            )
        )
    joined = time_of(raw.get("created_at" if second else "createdAt"))
    return PersonPlan(
        username=name,
        email=email,
        display_name=_plain(raw.get("displayName")).strip()[:150],
        avatar=_plain(raw.get("avatar"))[:100_000],
        password=password,
        active=active,
        operator=admin and operators,
        joined=joined,
        changed=time_of(raw.get("updatedAt")) or joined,
        containers=containers,
        notes=notes,
    )


def _email(given: Any) -> tuple[str, tuple[str, str] | None]:
    address = _plain(given).strip().lower()
    if not address or address.endswith(_PLACEHOLDER):
        return "", None
    try:
        validate_email(address)
    except ValidationError:
        return "", ("portagent.email_invalid", f"{address[:100]} is no e-mail address; the person has none here.")
    return address, None


def _from_email(address: str) -> str:
    name = re.sub(r"[^a-z0-9._-]+", "-", address.partition("@")[0].lower()).strip("._-")[:_LONGEST_NAME]
    return name if len(name) >= 3 else f"user-{name}".rstrip("-")


def _plain(value: Any) -> str:
    return str(storable(value)) if isinstance(value, str) else "" if value is None else str(value)
