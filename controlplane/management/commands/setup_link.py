"""``manage.py setup_link``: the one-time link for the first operator, or for one who lost the password."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from chat.models import Person
from controlplane.setup.links import operator_exists, setup_token, setup_url
from controlplane.up.lock import public_url


class Command(BaseCommand):
    """Exit codes: 0 a link was printed, 1 there is an operator already, or nobody of that name."""

    help = "Print the set-up link for the first operator, or with --for a link that sets a person's password."
    # Settings only: those of the code need every page and a second; `check`, `migrate` and every start have them.
    requires_system_checks: list[str] = ["switchboard"]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--for", dest="username", metavar="USERNAME", help="A person who lost the password.")
        parser.add_argument("--new", action="store_true", help="Make a new link; the one printed before stops working.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._print(options)
        except DatabaseError as error:
            raise CommandError(f"The database has no tables yet ({error}). Start with: make up") from error

    def _print(self, options: dict[str, Any]) -> None:
        person: Person | None = None
        if options["username"]:
            person = Person.objects.filter(username=options["username"]).first()
            if person is None:
                raise CommandError(f"There is no person with the user name {options['username']!r}.")
            if not person.is_active:
                raise CommandError(f"{person.username} is switched off and cannot sign in. Switch the person on first.")
        elif operator_exists():
            names = ", ".join(
                Person.objects.filter(is_superuser=True, is_active=True)
                .order_by("pk")
                .values_list("username", flat=True)[:5]
            )
            raise CommandError(
                f"There is an operator already ({names}). For a lost password: manage.py setup_link --for USERNAME"
            )
        token = setup_token(person=person, actor="command", fresh=options["new"])
        self.stdout.write(setup_url(public_url(), token))
        self.stderr.write("Works once, within 24 hours. Whoever has it can use it.")
