"""``manage.py homeserver``: what the homeserver is and can do, and administering its users the way that it has."""

from __future__ import annotations

import json
import secrets
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from rich.table import Table

from agents.matrix.admin.ways import LABELS
from agents.matrix.errors import MatrixError, Taken
from agents.services import homeserver_admin as administration
from agents.services.backends import Homeserver, NoHomeserver, homeserver_of, homeserver_service
from agents.services.homeserver_probe import homeserver_detect, stored_flavour
from agents.services.invitations import invitee_resume, open_pauses
from ops.choices import Lamp
from ops.models import Service
from ops.terminal import console_of, lamp_text

ACTOR = "command"


class Command(BaseCommand):
    """Exit codes: 0 done; 1 the homeserver refuses, does not answer, or has no way for it; 3 usage."""

    help = "Show what the homeserver is and can do; make accounts, reset passwords, deactivate accounts."
    # Settings only: those of the code need every page and a second; `check`, `migrate` and every start have them.
    requires_system_checks: list[str] = ["switchboard"]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--service", default="", metavar="NAME", help="Which homeserver, when there are several.")
        parser.add_argument("--probe", action="store_true", help="Ask it now instead of showing what is known.")
        parser.add_argument("--json", action="store_true", dest="as_json", help="As JSON on standard output.")
        actions = parser.add_subparsers(dest="do", metavar="ACTION", required=False)
        create = actions.add_parser("create-user", help="Make an ordinary account.")
        create.add_argument("name", help="The part of the id before the colon.")
        create.add_argument("--display-name", default="")
        create.add_argument("--administrator", action="store_true", help="Make it a server administrator.")
        reset = actions.add_parser("reset-password", help="Give an account a new password.")
        reset.add_argument("user_id", metavar="USER", help="A user id, or the name before the colon.")
        reset.add_argument("--keep-sessions", action="store_true", help="Do not end the account's open sessions.")
        for one in (create, reset):
            one.add_argument(
                "--password-stdin",
                action="store_true",
                help="Read the password from standard input; one is made and printed otherwise.",
            )
        close = actions.add_parser("deactivate-user", help="Close an account for good.")
        close.add_argument("user_id", metavar="USER", help="A user id, or the name before the colon.")
        close.add_argument(
            "--erase", action="store_true", help="Hide what it said from those who join its rooms later."
        )
        rename = actions.add_parser(
            "rename-server", help="Begin anew on a homeserver of another name; agents and conversations stay."
        )
        rename.add_argument("new_name", metavar="NAME", help="What stands behind the colon in Matrix ids there.")
        rename.add_argument("--url", default="", help="Its address, when that is another one too.")
        rename.add_argument(
            "--people", choices=("leave", "same"), default="leave", help="same: people have the same names there."
        )
        rename.add_argument(
            "--account", action="append", default=[], metavar="OLD=NEW", dest="accounts", help="One person's account."
        )
        rename.add_argument("--dry-run", action="store_true", help="Show what would change, and change nothing.")
        rename.add_argument("--yes", action="store_true", help="Do not ask for the name once more.")
        again = actions.add_parser("resume-invitations", help="Invite somebody again who is not invited for now.")
        again.add_argument("user_id", metavar="USER", help="A user id, or the name before the colon.")
        close.add_argument("--yes", action="store_true", help="Do not ask.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["do"] == "rename-server":
            self._rename(options)
            return
        service = _service(options["service"])
        try:
            if options["do"]:
                self._act(homeserver_of(service), options)
                return
            if options["probe"] or not stored_flavour(service):
                homeserver_detect(homeserver=homeserver_of(service), actor=ACTOR)
        except Taken as error:
            raise CommandError(
                f"The homeserver has an account named {options.get('name')} already. Choose another name, or give that one a new "
                "password: manage.py homeserver reset-password."
            ) from error
        except MatrixError as error:
            raise CommandError(error.sentence) from error
        except administration.CannotAdminister as error:
            raise CommandError(error.sentence) from error
        facts = administration.facts(service)
        if options["as_json"]:
            self.stdout.write(json.dumps(facts.to_dict(), indent=2))
        else:
            self._print(facts)

    def _rename(self, options: dict[str, Any]) -> None:
        """The repair ``homeserver.rename``, with its plan, its typed word and its way back."""
        arguments = ["homeserver.rename", "--param", f"name={options['new_name']}", "--param", f"url={options['url']}"]
        arguments += ["--param", f"people={options['people']}", "--param", f"accounts={','.join(options['accounts'])}"]
        arguments += ["--dry-run"] if options["dry_run"] else []
        arguments += ["--typed", options["new_name"].strip().lower()] if options["yes"] else []
        arguments += ["--json"] if options["as_json"] else []
        call_command("repair", *arguments, stdout=self.stdout, stderr=self.stderr)

    # Acting

    def _act(self, homeserver: Homeserver, options: dict[str, Any]) -> None:
        done: dict[str, Any]
        if options["do"] == "create-user":
            password, made = self._password(options)
            user_id = administration.user_create(
                homeserver=homeserver,
                localpart=options["name"].removeprefix("@").partition(":")[0],
                password=password,
                display_name=options["display_name"],
                admin=options["administrator"],
                actor=ACTOR,
            )
            done = {"user_id": user_id, **({"password": password} if made else {})}
            said = f"{user_id} was made."
        elif options["do"] == "reset-password":
            user_id, (password, made) = _user_id(homeserver, options["user_id"]), self._password(options)
            administration.password_reset(
                homeserver=homeserver,
                user_id=user_id,
                password=password,
                logout_devices=not options["keep_sessions"],
                actor=ACTOR,
            )
            done = {"user_id": user_id, **({"password": password} if made else {})}
            said = f"{user_id} has a new password."
        elif options["do"] == "resume-invitations":
            user_id = _user_id(homeserver, options["user_id"])
            pause = open_pauses().filter(homeserver=homeserver.service, user_id=user_id).first()
            if pause is None:
                raise CommandError(f"{user_id} is not paused: invitations of it go out with every sync.")
            invitee_resume(pause=pause, actor=ACTOR)
            done, said = {"user_id": user_id, "resumed": True}, f"The next sync invites {user_id} again."
        else:
            user_id = _user_id(homeserver, options["user_id"])
            self._sure(user_id, options["yes"])
            administration.user_deactivate(homeserver=homeserver, user_id=user_id, erase=options["erase"], actor=ACTOR)
            done, said = {"user_id": user_id, "deactivated": True}, f"{user_id} is closed for good."
        if options["as_json"]:
            self.stdout.write(json.dumps(done))
            return
        self.stdout.write(f"{Lamp.GOOD.shape} {said}")
        if "password" in done:
            self.stdout.write(f"  Password: {done['password']}  (kept nowhere: it is shown this once)")

    def _password(self, options: dict[str, Any]) -> tuple[str, bool]:
        """The password and whether it was made here. Never an argument: those stand in the list of processes."""
        if not options["password_stdin"]:
            return secrets.token_urlsafe(18), True
        password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise CommandError("There was no password on standard input.", returncode=3)
        return password, False

    def _sure(self, user_id: str, yes: bool) -> None:
        if yes:
            return
        if not sys.stdin.isatty():
            raise CommandError(f"{user_id} would be closed for good. Say --yes if that is meant.", returncode=3)
        self.stdout.write(
            f"{user_id} will be closed for good, and its name can never be used again. Go on? [y/N] ", ending=""
        )
        self.stdout.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise CommandError("Nothing was done.", returncode=3)

    # Showing

    def _print(self, facts: administration.HomeserverFacts) -> None:
        console = console_of(self.stdout, plain_width=120)
        flavour = facts.flavour
        place = f"{facts.server_name} at {facts.base_url}" if facts.server_name else facts.base_url
        console.print(f"{facts.label} is {place}, used in {facts.mode} mode.", markup=False)
        for part in ("auth", "registration", "admin", "secret"):
            sentence = (flavour.get(part) or {}).get("sentence")
            if sentence:
                console.print(f"  {sentence}", markup=False)
        given = ", ".join(facts.given) or "none"
        console.print(f"  Credentials given: {given}. Asked at {flavour.get('probed_at', 'no time')}.", markup=False)
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column()
        for way in facts.ways.values():
            lamp = lamp_text(Lamp.GOOD, "yes") if way.works else lamp_text(Lamp.OFF, "no")
            table.add_row(lamp, LABELS[way.ability], way.sentence)
        console.print()
        console.print(table)
        for sentence in facts.limits.values():
            console.print(f"  {sentence}", markup=False)


def _service(name: str) -> Service:
    if name:
        found = Service.objects.filter(name=name, kind="homeserver").first()
        if found is None:
            raise CommandError(f"There is no homeserver named {name}.", returncode=3)
        return found
    found = homeserver_service()
    if found is None:
        raise CommandError(NoHomeserver.sentence, returncode=3)
    return found


def _user_id(homeserver: Homeserver, given: str) -> str:
    return given if given.startswith("@") and ":" in given else f"@{given.removeprefix('@')}:{homeserver.server_name}"
