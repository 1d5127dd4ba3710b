"""``manage.py reset``: begin anew with a part, after a backup, and without making anything outside a second time."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from ops.backup.errors import BackupError
from ops.locks import LockHeld
from ops.resets import reset_names, reset_scopes
from ops.services.resets import (
    ResetPlan,
    ResetRefused,
    open_reset,
    reset_finish,
    reset_now,
    reset_plan,
    reset_undo,
)
from ops.terminal import console_of
from ops.words import counted

ACTOR = "command"


class Command(BaseCommand):
    """Exit codes: 0 done, 1 refused or failed, 2 done, but something was not found again (it is named), 3 usage."""

    help = "Remove mappings, conversations, people or settings (or all) after a backup; what the homeserver has is found again."
    # Settings only: those of the code need every page and a second; `check`, `migrate` and every start have them.
    requires_system_checks: list[str] = ["switchboard"]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--only", metavar="A,B", help=f"What: {', '.join(reset_names())}.")
        parser.add_argument(
            "--yes", metavar="WORD", help="The word that the plan asks for; without it only the plan is shown."
        )
        parser.add_argument("--finish", action="store_true", help="Find again what an earlier reset left to be found.")
        parser.add_argument("--undo", action="store_true", help="Take the last reset back: restore what it removed.")
        parser.add_argument(
            "--json", action="store_true", dest="as_json", help="The answer as JSON on standard output."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        console = console_of(self.stdout)
        try:
            if options["undo"]:
                self._undo(console, options)
            elif options["finish"]:
                self._done(console, reset_finish(actor=ACTOR), options)
            elif not options["only"]:
                self._list(console)
            elif not options["yes"]:
                self._show(console, reset_plan(scopes=options["only"].split(",")), options)
            else:
                said = (
                    None if options["as_json"] else lambda done, total, text: console.print(f"○ {text}", markup=False)
                )
                done = reset_now(
                    scopes=options["only"].split(","),
                    typed=options["yes"],
                    actor=ACTOR,
                    **({"progress": said} if said else {}),
                )
                self._done(console, done, options)
        except ValueError as error:
            raise CommandError(str(error), returncode=3) from error
        except (ResetRefused, LockHeld, BackupError) as error:
            raise CommandError(str(error), returncode=1) from error

    def _list(self, console: Console) -> None:
        table = Table("What", "", box=None, pad_edge=False)
        for scope in reset_scopes():
            if scope.alone:
                table.add_row(scope.name, scope.sentence)
        table.add_row("all", "All of these, and the agents' rows; services, operators, backups and the audit log stay.")
        console.print(table)
        console.print("To see what would go: manage.py reset --only mappings", markup=False)
        if (note := open_reset()) is not None:
            console.print(
                f"▲ The reset of {', '.join(note['scopes'])} of {note['at'][:16]} is not finished: manage.py reset --finish",
                markup=False,
            )

    def _show(self, console: Console, plan: ResetPlan, options: dict[str, Any]) -> None:
        if options["as_json"]:
            self.stdout.write(json.dumps(plan.to_dict(), indent=2, default=str))
            return
        table = Table("Would go", "Rows", box=None, pad_edge=False)
        for line in plan.lines:
            table.add_row(line["label"], f"{line['count']:,}")
        console.print(table if plan.lines else "Nothing of it is here.")
        for finding in plan.outside:
            sign = "▲" if finding.severity != "info" else "○"
            console.print(f"{sign} {finding.sentence}", markup=False)
        for one in plan.instead:
            console.print(f"First: {one['sentence']}\n    {one['command']}", markup=False)
        console.print(plan.backup, markup=False)
        if plan.refused:
            console.print(f"■ {plan.refused}", markup=False)
        else:
            only = ",".join(plan.scopes)
            console.print(
                f'Nothing was changed. To do it: manage.py reset --only {only} --yes "{plan.word}"', markup=False
            )

    def _done(self, console: Console, done: dict[str, Any], options: dict[str, Any]) -> None:
        if options["as_json"]:
            self.stdout.write(json.dumps(done, indent=2, default=str))
        else:
            removed = sum(done.get("removed", {}).values())
            if removed:
                console.print(f"● {counted(removed, 'row')} removed. Backup: {done['backup']}", markup=False)
                console.print("To take it back: manage.py reset --undo", markup=False)
            for sentence in done["left"]:
                console.print(f"▲ {sentence}", markup=False)
            if done["left"]:
                console.print("Decide these, then: manage.py reset --finish", markup=False)
            else:
                console.print("● Everything that the homeserver has was found again.", markup=False)
        if done["left"]:
            sys.exit(2)

    def _undo(self, console: Console, options: dict[str, Any]) -> None:
        restore = reset_undo(actor=ACTOR)
        if options["as_json"]:
            self.stdout.write(
                json.dumps({"restore": str(restore.pk), "state": restore.state, "report": restore.report}, default=str)
            )
        else:
            console.print(f"● {restore.source} was restored ({restore.get_state_display().lower()}).", markup=False)
