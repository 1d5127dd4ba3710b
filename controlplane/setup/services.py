"""What a set-up link does: make the first operator, or set a person's password; both with a Matrix account where we can."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction

from agents.matrix.errors import MatrixError, Taken
from agents.services.homeserver_admin import CannotAdminister
from chat.models import Person
from chat.services.matrix_account import accounts_homeserver, register, remember
from chat.services.people import person_set_password
from controlplane.models import SetupLink
from controlplane.setup.links import operator_exists, use_up
from ops.logs import get_logger
from ops.services import audit
from ops.services.jobs import job_start

log = get_logger(__name__)


class LinkUsed(Exception):
    """Another request used the link first, or it expired in between."""


@dataclass(frozen=True, slots=True)
class MatrixOutcome:
    """``user_id`` is "" when no account was made; ``sentence`` says what happened, "" when there is nothing to say."""

    user_id: str = ""
    sentence: str = ""


def create_first_operator(*, link: SetupLink, username: str, display_name: str, password: str) -> Person:
    """Use the link up and make the operator, both or neither. Raises ``LinkUsed``."""
    with transaction.atomic():
        if operator_exists() or not use_up(link):
            raise LinkUsed
        person = Person(username=username, display_name=display_name, is_staff=True, is_superuser=True, is_active=True)
        person.set_password(password)
        person.save()
        audit.record(actor="setup_link", action="person.created", target=person, after={"operator": True})
    return person


def set_password(*, link: SetupLink, password: str) -> Person:
    """Use the link up and give its person the password; other sessions of the person end. Raises ``LinkUsed``."""
    with transaction.atomic():
        if link.person_id is None or not use_up(link):
            raise LinkUsed
        person = Person.objects.select_for_update().get(pk=link.person_id)
        return person_set_password(person=person, password=password, actor="setup_link")


def give_matrix_account(*, person: Person, password: str) -> MatrixOutcome:
    """Make the person's account on the homeserver (same name, same password) and have a sync invite it.

    Never raises for what the homeserver does: the person exists already, and the sentence says what is missing.
    """
    service = accounts_homeserver()
    if service is None or person.matrix_user_id:
        return MatrixOutcome(person.matrix_user_id)
    sentence = ""
    try:
        user_id = register(service, person, person.username, password, "setup_link")
    except Taken:
        if not service.options.get("local"):
            # On somebody's homeserver it may be anybody's account.
            return MatrixOutcome(
                "",
                f"The homeserver already has an account named {person.username}. If it is yours, enter its Matrix id with "
                "your person in the admin; it is then invited to the rooms.",
            )
        user_id = (
            f"@{person.username}:{service.options.get('server_name') or service.capabilities.get('server_name', '')}"
        )
        sentence = f"The homeserver already had the account {user_id}. It keeps the password that it had."
    except (MatrixError, CannotAdminister) as error:
        log.warning("setup.no_matrix_account", person=person.pk, error=error.sentence)
        return MatrixOutcome(
            "",
            f"Your Matrix account could not be made: {error.sentence} Everything else is ready. To try again, run "
            f"manage.py setup_link --for {person.username} and open the link it prints.",
        )
    with transaction.atomic():
        remember(person=person, user_id=user_id, actor="setup_link")
        job_start(kind="agents.sync", title=f"Invite {user_id}", actor=f"person:{person.username}", once=True)
    return MatrixOutcome(user_id, sentence)
