"""Undoes a run of a repair."""

from __future__ import annotations

import sys
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.text import Text

from ops.doctor import report
from ops.doctor.repairs import RepairRefused
from ops.locks import LockHeld
from ops.models import RepairRun
from ops.services.repairs import repair_undo, why_not_undo
from ops.terminal import console_of

_LISTED = 20


class Command(BaseCommand):
    help = "Undo a repair: by the id of its run, or the last one that can be undone. Exit code 2: it cannot be undone."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "run", nargs="?", default="", help='A run\'s id, or "last"; without it the runs are listed.'
        )
        parser.add_argument("--yes", action="store_true", help="Do not ask.")

    def handle(self, *args: Any, run: str, yes: bool, **options: Any) -> None:
        console = console_of(self.stdout, plain_width=120)
        if not run:
            rows = [row for row in RepairRun.objects.all()[:_LISTED] if not why_not_undo(row)]
            if not rows:
                console.print("There is nothing to undo.")
            for row in rows:
                console.print(Text(f"{row.pk}  {row.finished_at:%Y-%m-%d %H:%M} UTC  {row}: {row.sentence}"))
            return
        row = self._find(run)
        console.print(Text(f"{row}: {row.sentence}"))
        backwards = [{**change, "before": change["after"], "after": change["before"]} for change in row.changes]
        report.print_changes(console, backwards, row.changes_count)
        if not yes and sys.stdin.isatty():
            self.stderr.write("Undo it? [y/N] ", ending="")
            self.stderr.flush()
            if sys.stdin.readline().strip().lower() not in ("y", "yes"):
                sys.exit(2)
        try:
            repair_undo(run=row, actor="command")
        except (RepairRefused, LockHeld) as error:
            raise CommandError(str(error), returncode=2) from None
        console.print("Undone.")
        for place, status in row.checks_after.items():
            console.print(Text(f"  {place}: {status}"))

    def _find(self, wanted: str) -> RepairRun:
        if wanted == "last":
            row = next((one for one in RepairRun.objects.all()[:100] if not why_not_undo(one)), None)
        else:
            try:
                row = RepairRun.objects.filter(pk=wanted).first()
            except ValidationError:
                row = None
        if row is None:
            raise CommandError(
                f"There is no run {wanted!r} that could be undone. List them: manage.py undo", returncode=3
            )
        return row
