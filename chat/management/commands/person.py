"""``manage.py person``: people from the terminal, also for an operator who is locked out."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.db.models import Q
from rich.table import Table

from chat.access.second_factor import second_factor_remove
from chat.api.desk_render import person_dict
from chat.management.desk import ACTOR, DeskCommand
from chat.models import Person
from chat.queries_people import with_numbers
from chat.services.people import person_deactivate, person_delete, person_reactivate, reset_link, sign_out_everywhere
from chat.services.reset_handed import reset_handed
from ops.choices import Lamp
from ops.html import relative
from ops.terminal import console_of, lamp_text

_LISTED = 1000


class Command(DeskCommand):
    """Exit codes: 0 done, 3 usage."""

    help = "Lists people, shuts them out, lets them in, signs them out, makes a link for a new password, takes a lost second factor away, deletes them."
    # Settings only: those of the code need every page and a second; `check`, `migrate` and every start have them.
    requires_system_checks: list[str] = ["switchboard"]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "action",
            choices=["list", "deactivate", "reactivate", "sign-out", "reset-link", "remove-second-factor", "delete"],
        )
        parser.add_argument(
            "who", nargs="?", default="", metavar="NAME", help="User name or e-mail; for list: a part of either."
        )
        parser.add_argument("--reason", default="", help="Why somebody is shut out.")
        parser.add_argument(
            "--conversations",
            choices=["keep", "delete"],
            default="keep",
            help="With delete: what becomes of what was said.",
        )
        parser.add_argument("--yes", action="store_true", help="With delete: do not ask.")
        parser.add_argument("--json", action="store_true", dest="as_json", help="The answer as JSON.")

    def _list(self, options: dict[str, Any]) -> None:
        rows = Person.objects.order_by("username")
        if options["who"]:
            part = options["who"]
            rows = rows.filter(Q(username__icontains=part) | Q(display_name__icontains=part) | Q(email__icontains=part))
        found = list(with_numbers(rows)[:_LISTED])
        if options["as_json"]:
            self._json([person_dict(row) for row in found])
            return
        if not found:
            self.stdout.write("○ Nobody. To invite somebody: manage.py invite create")
            return
        table = Table("Name", "State", "2FA", "Sessions", "Failed", "Last seen", "E-mail", box=None, pad_edge=False)
        for row in found:
            lamp = lamp_text(Lamp.GOOD, str(row.role)) if row.is_active else lamp_text(Lamp.OFF, "deactivated")
            table.add_row(
                row.username, lamp, "on" if row.has_second else "off", str(row.open_sessions or 0), str(row.failed or 0),
                relative(row.seen_at) if row.seen_at else "never", row.email[:30],
            )  # fmt: skip
        console_of(self.stdout).print(table)

    def _deactivate(self, options: dict[str, Any]) -> None:
        row = person_deactivate(person=_person(options["who"]), reason=options["reason"], actor=ACTOR)
        self._done(row, "is deactivated; what they had open ends within two seconds", options)

    def _reactivate(self, options: dict[str, Any]) -> None:
        self._done(person_reactivate(person=_person(options["who"]), actor=ACTOR), "may sign in again", options)

    def _sign_out(self, options: dict[str, Any]) -> None:
        row = _person(options["who"])
        sign_out_everywhere(person=row, actor=ACTOR)
        self._done(row, "is signed out everywhere", options)

    def _remove_second_factor(self, options: dict[str, Any]) -> None:
        row = _person(options["who"])
        removed = second_factor_remove(person=row, actor=ACTOR)
        self._done(row, "signs in with the password alone now" if removed else "has no second factor", options)

    def _reset_link(self, options: dict[str, Any]) -> None:
        row = _person(options["who"])
        if not row.is_active:
            raise CommandError(
                f"{row.get_username()} is deactivated: manage.py person reactivate {row.get_username()}", returncode=3
            )
        link = reset_link(person=row, actor=ACTOR)
        reset_handed(person=row)
        if options["as_json"]:
            self._json({"username": row.get_username(), "link": link})
            return
        self.stdout.write(
            f"● For {row.get_username()}: opens once, within a day. Hand it over on a way that only they read."
        )
        self.stdout.write(f"  {link}")

    def _delete(self, options: dict[str, Any]) -> None:
        row = _person(options["who"])
        name = row.get_username()
        if not options["yes"]:
            typed = input(
                f"{name} is deleted for good, conversations: {options['conversations']}. Type {name} to go on: "
            )
            if typed.strip() != name:
                raise CommandError("That is another name; nothing is deleted.", returncode=3)
        person_delete(person=row, conversations=options["conversations"], actor=ACTOR)
        if options["as_json"]:
            self._json({"username": name, "deleted": True, "conversations": options["conversations"]})
        else:
            self.stdout.write(f"● {name} is deleted.")

    def _done(self, row: Person, words: str, options: dict[str, Any]) -> None:
        if options["as_json"]:
            self._json(person_dict(with_numbers(Person.objects.filter(pk=row.pk)).get()))
        else:
            self.stdout.write(f"● {row.get_username()} {words}.")


def _person(name: str) -> Person:
    if not name:
        raise CommandError("Say who: a user name or an e-mail address.", returncode=3)
    rows = list(Person.objects.filter(username__iexact=name)[:2]) or list(Person.objects.filter(email__iexact=name)[:2])
    if len(rows) != 1:
        raise CommandError(
            f"{'Several people have' if rows else 'Nobody has'} the name {name}: manage.py person list", returncode=3
        )
    return rows[0]
