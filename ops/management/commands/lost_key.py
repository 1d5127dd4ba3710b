"""Says what is lost with a key of FIELD_ENCRYPTION_KEYS, and gives it up so that the rest works."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from ops.doctor_data.lost_key import REPAIR, WORD, advice_of
from ops.losses import losses
from ops.terminal import console_of


class Command(BaseCommand):
    help = (
        "List every stored secret that the present keys cannot open; with --apply: make a backup, take them away, and say what to enter "
        "again. Exit codes: 0 nothing is lost, or it was given up; 1 something is lost; 4 tried and failed."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--apply", action="store_true", help="Give them up, after a backup. Can be undone.")
        parser.add_argument("--no-backup", action="store_true", help="Make no backup before.")
        parser.add_argument("--json", action="store_true", dest="as_json", help="One JSON document on standard output.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = losses()
        except DatabaseError as error:
            raise CommandError(f"The database cannot be asked: {error}. Is it there, and migrated?") from error
        if options["as_json"] and not options["apply"]:
            self.stdout.write(json.dumps({"lost": [loss.to_dict() for loss in found]}, indent=2))
        elif not options["as_json"]:
            self._print(found)
        if not found:
            return
        if not options["apply"]:
            sys.exit(1)
        arguments = [REPAIR, "--typed", WORD, "--param", f"backup={'no' if options['no_backup'] else 'yes'}"]
        arguments += ["--json"] if options["as_json"] else []
        call_command("repair", *arguments, stdout=self.stdout, stderr=self.stderr)

    def _print(self, found: list[Any]) -> None:
        console = console_of(self.stdout, plain_width=140)
        if not found:
            console.print("● Every stored secret can be opened. Nothing is lost.", markup=False)
            return
        for loss in found:
            shape = "■" if loss.kind.matters else "○"
            console.print(f"{shape} {len(loss.keys):,} {loss.kind.what}", markup=False)
            if loss.kind.matters:
                for name in loss.names:
                    console.print(f"    {name}", markup=False)
            console.print(f"    {loss.kind.advice}", markup=False)
        console.print(
            "If the old key is somewhere: put it back, behind the newest one, and nothing is lost. "
            "If not: manage.py lost_key --apply, then:",
            markup=False,
        )
        for line in advice_of(found):
            console.print(f"  - {line}", markup=False)
