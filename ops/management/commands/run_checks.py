"""Runs checks now and prints what they found."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.table import Table
from rich.text import Text

from ops.choices import CheckStatus, lamp_for
from ops.runner import CheckRun, run_checks
from ops.terminal import console_of, lamp_text


class Command(BaseCommand):
    help = "Run checks now. Exit code 0: none failed; 2: some failed."
    # It has to run when something is wrong.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("ids", nargs="*", help="Ids of checks; all when none is given.")
        parser.add_argument("--tag", action="append", default=[], dest="tags", help="Only checks with this tag.")
        parser.add_argument("--json", action="store_true", dest="as_json", help="One JSON document on standard out.")

    def handle(self, *args: Any, ids: list[str], tags: list[str], as_json: bool, **options: Any) -> None:
        try:
            runs = run_checks(ids, tags=tags)
        except ValueError as error:
            raise CommandError(str(error)) from None
        failed = any(run.status in (CheckStatus.FAIL, CheckStatus.BLOCKED) for run in runs)
        if as_json:
            self.stdout.write(json.dumps({"ok": not failed, "checks": [run.to_dict() for run in runs]}, indent=2))
        else:
            self._table(runs)
        if failed:
            sys.exit(2)

    def _table(self, runs: list[CheckRun]) -> None:
        table = Table(box=None, header_style="bold")
        for title in ("", "Check", "Target", "", "ms"):
            table.add_column(title, justify="right" if title == "ms" else "left")
        for run in runs:
            lamp = lamp_for(run.status)
            table.add_row(
                lamp_text(lamp, CheckStatus(run.status).label),
                run.check.id,
                run.target,
                Text(run.sentence),
                str(run.duration_ms),
            )
        console_of(self.stdout, plain_width=160).print(table)
