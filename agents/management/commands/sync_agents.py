"""``manage.py sync_agents``: bring agents, accounts, rooms and the space to what the backends say."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from agents.models import SyncState
from agents.services.sync import SyncBusy, SyncReport, UnknownService, sync_agents
from ops.terminal import console_of
from ops.words import counted


class Command(BaseCommand):
    """Exit codes: 0 done, 1 done with failures, 2 stopped to ask, 3 usage."""

    help = "Sync agents with their accounts, rooms and the space. --dry-run prints the plan."
    # Settings only: those of the code need every page and a second; `check`, `migrate` and every start have them.
    requires_system_checks: list[str] = ["switchboard"]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--service", default="", metavar="NAME", help="Only the agents of this service.")
        parser.add_argument("--dry-run", action="store_true", help="Print what would be done, and do nothing.")
        parser.add_argument(
            "--json", action="store_true", dest="as_json", help="The report as JSON on standard output."
        )
        parser.add_argument(
            "--force", action="store_true", help="Apply a plan that stopped because it looks like a mistake."
        )
        parser.add_argument(
            "--verify",
            action="store_true",
            help="Compare every account, room and the space with the homeserver, not only a part in turn.",
        )
        parser.add_argument(
            "--wait", type=float, default=600.0, help="Seconds to wait for a sync that is already running."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            report = self._sync(options)
        except (UnknownService, SyncBusy) as error:
            raise CommandError(str(error), returncode=3) from error
        if options["as_json"]:
            self.stdout.write(json.dumps(report.to_dict(), indent=2, default=str))
        else:
            self._print(report, dry_run=options["dry_run"])
        if report.plan.stopped:
            sys.exit(2)
        if report.error or any(finding.severity in {"error", "critical"} for finding in report.findings):
            sys.exit(1)

    def _sync(self, options: dict[str, Any]) -> SyncReport:
        call: dict[str, Any] = {
            "actor": "command",
            "trigger": "command",
            "service_name": options["service"],
            "dry_run": options["dry_run"],
            "force": options["force"],
            "verify": options["verify"],
            "wait": options["wait"],
        }
        if not sys.stderr.isatty() or options["as_json"] or options["dry_run"]:
            return sync_agents(**call)
        with Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=Console(stderr=True), transient=True,
        ) as bar:  # fmt: skip
            task = bar.add_task("Reading the agents", total=None)

            def progress(done: int, total: int, text: str) -> None:
                bar.update(task, completed=done, total=total, description=text[:48])

            return sync_agents(progress=progress, **call)

    def _print(self, report: SyncReport, *, dry_run: bool) -> None:
        console = console_of(self.stdout)
        if dry_run:
            for step in report.plan.steps:
                console.print(f"  {step.sentence}", markup=False)
        counts = report.plan.counts if dry_run else report.applied
        if counts:
            table = Table("Step", "Would do" if dry_run else "Done", box=None, pad_edge=False)
            for kind, count in sorted(counts.items()):
                table.add_row(kind, str(count))
            console.print(table)
        if report.looked:
            console.print(_compared(report, dry_run=dry_run), markup=False)
        for finding in report.findings:
            shape = {"info": "○", "warning": "▲"}.get(finding.severity, "■")
            console.print(f"{shape} {finding.severity}: {finding.sentence}", markup=False)
        if report.error:
            console.print(f"■ The rest was left for the next pass: {report.error}", markup=False)
        if report.state == SyncState.STOPPED:
            console.print("▲ Stopped. Look at the list, then: manage.py sync_agents --force", markup=False)
        elif not counts and not report.looked.get("open"):
            console.print("● Nothing to do: everything is as it should be.", markup=False)
        elif dry_run:
            console.print("Nothing was changed. To apply: manage.py sync_agents", markup=False)
        else:
            console.print("● Done.", markup=False)


def _compared(report: SyncReport, *, dry_run: bool) -> str:
    looked = report.looked
    text = f"○ {counted(looked['mappings'], 'mapping was', 'mappings were')} compared with the homeserver: "
    if dry_run:
        return text + f"{counted(len(report.drift), 'difference')}."
    return text + f"{counted(looked['found'], 'difference')}, {looked['mended']} mended, {looked['open']} open."
