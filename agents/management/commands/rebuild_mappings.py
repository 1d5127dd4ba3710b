"""``manage.py rebuild_mappings``: our rows anew from what the homeserver has."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from agents.matrix.errors import MatrixError
from agents.services.backends import NoHomeserver, open_homeserver
from agents.services.rebuild import RebuildPlan, RebuildReport, rebuild_apply, rebuild_plan
from agents.services.sync import SyncBusy, UnknownService
from ops.terminal import console_of
from ops.words import counted, verb

SHOWN = 40


class Command(BaseCommand):
    """Exit codes: 0 done, 1 something could not be read or written, 2 something needs a decision, 3 usage."""

    help = "Find accounts, rooms and the space on the homeserver and write mappings. Creates nothing there."
    # Settings only: those of the code need every page and a second; `check`, `migrate` and every start have them.
    requires_system_checks: list[str] = ["switchboard"]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--service", default="", metavar="NAME", help="Only the agents of this service.")
        parser.add_argument("--dry-run", action="store_true", help="Print what was found, and write nothing.")
        parser.add_argument(
            "--json", action="store_true", dest="as_json", help="The report as JSON on standard output."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        report: RebuildReport | None = None
        try:
            plan = rebuild_plan(homeserver=open_homeserver(), service_name=options["service"])
            if not options["dry_run"] and plan.writes:
                report = rebuild_apply(plan=plan, actor="command")
        except (UnknownService, SyncBusy, NoHomeserver) as error:
            raise CommandError(getattr(error, "sentence", str(error)), returncode=3) from error
        except MatrixError as error:
            raise CommandError(error.sentence, returncode=1) from error
        if options["as_json"]:
            done = report.to_dict() if report is not None else {"run": None, "written": {}, "findings": []}
            self.stdout.write(json.dumps({**plan.to_dict(), **done}, indent=2, default=str))
        else:
            self._print(console_of(self.stdout), plan, report)
        if plan.unread or (report is not None and any(one.code == "rebuild.taken" for one in report.findings)):
            sys.exit(1)
        if plan.search.doubts:
            sys.exit(2)

    def _print(self, console: Console, plan: RebuildPlan, report: RebuildReport | None) -> None:
        found = plan.search
        if plan.space is not None:
            console.print(f"The space is {plan.space.room_id} (found by {plan.space_by}).", markup=False)
        if found.claims:
            table = Table("Agent", "Account", "Room", "Found by", box=None, pad_edge=False)
            for claim in found.claims[:SHOWN]:
                room = claim.room.room_id if claim.room else "none"
                table.add_row(claim.wanted.info.name, claim.account.user_id, room, claim.how or "account")
            console.print(table)
            if len(found.claims) > SHOWN:
                console.print(f"… and {len(found.claims) - SHOWN} more (--json lists all).", markup=False)
        for doubt in found.doubts:
            console.print(f"▲ {doubt.name}: {doubt.sentence} {' '.join(doubt.rooms)}".rstrip(), markup=False)
        for finding in [
            *plan.unread,
            *(one for one in (report.findings if report else ()) if one.code == "rebuild.taken"),
        ]:
            console.print(f"■ {finding.target}: {finding.sentence}", markup=False)
        absent, strays = len(found.absent), len(found.unclaimed)
        if absent:
            console.print(
                f"○ {counted(absent, 'agent')} {verb(absent, 'is', 'are')} unknown to the homeserver; sync sets them up.",
                markup=False,
            )
        if strays:
            console.print(
                f"○ {counted(strays, 'account')} of ours {verb(strays, 'belongs', 'belong')} to no listed agent: "
                f"{', '.join(found.unclaimed[:5])}{' …' if strays > 5 else ''}",
                markup=False,
            )
        if report is not None:
            numbers = ", ".join(f"{kind} {number}" for kind, number in sorted(report.counts.items()))
            console.print(f"● Written: {numbers}. Now: manage.py sync_agents", markup=False)
        elif plan.writes:
            console.print("Nothing was changed. To write the rows: manage.py rebuild_mappings", markup=False)
        else:
            console.print("● Nothing to rebuild.", markup=False)
