"""Shows what a repair would change, asks, and does it."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.table import Table
from rich.text import Text

from ops.choices import RepairClass, RepairRunState
from ops.doctor import report
from ops.doctor.planning import Planned
from ops.doctor.render import run_dict
from ops.doctor.repairs import RepairRefused, all_repairs
from ops.locks import LockHeld
from ops.services.repairs import repair_plan, repair_start
from ops.terminal import console_of


class Command(BaseCommand):
    help = "Run a repair. Exit codes: 0 done or nothing to do, 2 refused or not agreed, 3 usage, 4 tried and failed."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", nargs="?", default="", help="The repair; without one all are listed.")
        parser.add_argument(
            "--target", default="", help="One object, for example agent:42; everything affected otherwise."
        )
        parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", dest="params")
        parser.add_argument("--dry-run", action="store_true", help="Show the plan and change nothing.")
        parser.add_argument("--yes", action="store_true", help="Do not ask.")
        parser.add_argument("--typed", default="", help="The word that a destructive repair asks for.")
        parser.add_argument("--json", action="store_true", dest="as_json", help="One JSON document on standard out.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["id"]:
            self._list()
            return
        params = self._params(options["params"])
        console = console_of(self.stderr if options["as_json"] else self.stdout, plain_width=100)
        try:
            planned = repair_plan(repair_id=options["id"], target=options["target"], params=params, actor="command")
            report.print_plan(console, planned)
            if options["dry_run"]:
                if options["as_json"]:
                    self.stdout.write(report.as_json(planned.to_dict()))
                return
            if planned.plan.changes and not self._agreed(planned, options):
                sys.exit(2)
            run = repair_start(
                repair_id=options["id"],
                target=options["target"],
                params=params,
                actor="command",
                trigger="command",
                typed=options["typed"],
            )
        except ValueError as error:
            raise CommandError(str(error), returncode=3) from None
        except (RepairRefused, LockHeld) as error:
            raise CommandError(str(error), returncode=2) from None
        if options["as_json"]:
            self.stdout.write(report.as_json(run_dict(run)))
        else:
            console.print(Text(f"{run.lamp.shape} {run.get_state_display()}. {run.error}".rstrip()))
            for place, status in run.checks_after.items():
                console.print(Text(f"  {place}: {run.checks_before.get(place, 'not asked')} → {status}"))
            if run.undo_until is not None:
                console.print(Text(f"Undo until {run.undo_until:%Y-%m-%d %H:%M} UTC: manage.py undo {run.pk}"))
        if run.state in (RepairRunState.FAILED, RepairRunState.UNPROVEN):
            sys.exit(4)

    def _agreed(self, planned: Planned, options: dict[str, Any]) -> bool:
        if planned.confirm_word:
            if not options["typed"] and sys.stdin.isatty():
                self.stderr.write(f"Type {planned.confirm_word!r} to go on: ", ending="")
                self.stderr.flush()
                options["typed"] = sys.stdin.readline().strip()
            # The service refuses another word, with a sentence.
            return True
        if options["yes"] or planned.repair.repair_class is RepairClass.AUTOMATIC:
            return True
        if not sys.stdin.isatty():
            self.stderr.write("Nothing was done: this repair asks first. Add --yes to agree beforehand.")
            return False
        self.stderr.write("Do it? [y/N] ", ending="")
        self.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def _params(self, given: list[str]) -> dict[str, str]:
        params = {}
        for one in given:
            name, equals, value = one.partition("=")
            if not equals:
                raise CommandError(f"--param takes NAME=VALUE, not {one!r}.", returncode=3)
            params[name.strip()] = value
        return params

    def _list(self) -> None:
        table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
        for title in ("Repair", "Class", "What it does"):
            table.add_column(title, no_wrap=title == "Repair")
        for repair in all_repairs():
            table.add_row(repair.id, repair.repair_class.label, Text(repair.explain))
        console_of(self.stdout, plain_width=120).print(table)
