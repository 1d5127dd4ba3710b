"""A person's account on our homeserver, made by us: in one step for operators at set-up and for invited people in the portal.

It is made the way that the homeserver has for it (``agents.services.homeserver_admin``): shared secret, administrator, admin room or
registration token.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from django.conf import settings
from django.db import transaction

from agents.matrix.errors import MatrixError, Taken
from agents.services.backends import homeserver_of, homeserver_service
from agents.services.homeserver_admin import CannotAdminister, can_make_users, user_create
from chat.models import Person
from ops.logs import get_logger
from ops.models import Service
from ops.services.audit import record

log = get_logger(__name__)

SHORTEST_PASSWORD = 10
# What a Matrix name may not hold (specification, appendices, "User identifiers").
_FOREIGN = re.compile(r"[^a-z0-9._=/+-]")


class NoMatrixAccount(Exception):
    """No account was made; ``sentence`` says why and what to do, ``code`` is stable."""

    def __init__(self, sentence: str, *, code: str) -> None:
        super().__init__(sentence)
        self.sentence, self.code = sentence, code


@dataclass(frozen=True, slots=True)
class MatrixAccount:
    """A fresh account. The password is kept nowhere: it is shown once."""

    user_id: str
    password: str
    homeserver: str


def accounts_homeserver() -> Service | None:
    """The homeserver on which we may make people's accounts, as far as is known without asking it."""
    service = homeserver_service()
    return service if service is not None and can_make_users(service) else None


def reserved(service: Service, localpart: str) -> bool:
    """Whether the homeserver keeps this name for us or for agents."""
    prefix = service.options.get("user_prefix") or settings.MATRIX_USER_PREFIX
    return localpart == service.options.get("sender_localpart") or localpart.startswith(prefix)


def register(service: Service, person: Person, localpart: str, password: str, actor: str) -> str:
    """Make the account and return its id. Raises ``Taken`` and other ``MatrixError``, and ``CannotAdminister``."""
    return user_create(
        homeserver=homeserver_of(service),
        localpart=localpart,
        password=password,
        display_name=person.display_name or person.username,
        actor=actor,
    )


def remember(*, person: Person, user_id: str, actor: str) -> None:
    """Keep that this Matrix account is the person's."""
    with transaction.atomic():
        person.matrix_user_id = user_id
        person.save(update_fields=["matrix_user_id"])
        record(actor=actor, action="person.matrix_account", target=person, after={"matrix_user_id": user_id})


def account_make(*, person: Person, password: str = "", actor: str) -> MatrixAccount:
    """An account for somebody of the portal, named like them, with the given password or one made here. Raises ``NoMatrixAccount``.

    A name that exists already is never taken over: it may be anybody's.
    """
    if person.matrix_user_id:
        raise NoMatrixAccount(
            f"You have the Matrix account {person.matrix_user_id} already.", code="matrix.has_account"
        )
    service = accounts_homeserver()
    if service is None:
        raise NoMatrixAccount(
            "There is no homeserver here on which accounts can be made. Use an account of your own: an operator can enter it for you.",
            code="matrix.none",
        )
    if password and len(password) < SHORTEST_PASSWORD:
        raise NoMatrixAccount(f"The password needs {SHORTEST_PASSWORD} characters or more.", code="matrix.password")
    localpart = _FOREIGN.sub("_", person.username.lower())
    if reserved(service, localpart):
        raise NoMatrixAccount(
            f"The name {localpart} is kept for agents. Ask an operator for an account.", code="matrix.taken"
        )
    password = password or secrets.token_urlsafe(15)
    try:
        user_id = register(service, person, localpart, password, actor)
    except Taken:
        raise NoMatrixAccount(
            f"The homeserver has an account named {localpart} already. If it is yours, ask an operator to enter it with your name.",
            code="matrix.taken",
        ) from None
    except MatrixError as error:
        log.warning("portal.no_matrix_account", person=person.pk, error=error.sentence)
        raise NoMatrixAccount(
            f"The account could not be made: {error.sentence} Try again in a moment.", code="matrix.failed"
        ) from error
    except CannotAdminister as error:
        # What an operator has to do is no business of the person's.
        log.warning("portal.no_matrix_account", person=person.pk, error=error.sentence)
        raise NoMatrixAccount(
            "The homeserver does not let us make accounts at present. Ask an operator for one.", code="matrix.failed"
        ) from error
    remember(person=person, user_id=user_id, actor=actor)
    return MatrixAccount(user_id, password, str(service.options.get("public_url") or service.base_url))
