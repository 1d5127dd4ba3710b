"""``manage.py import_portagent PATH``: people, invitations and conversations from Portagent 1.9 or 2."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.table import Table

from agents.models import Agent
from chat.models import Person
from chat.portagent.plan import Wishes
from chat.queries import find_agents
from chat.services.portagent_import import ImportReport, NotPortagent, portagent_import
from ops.findings import Finding
from ops.locks import LockHeld
from ops.terminal import console_of
from ops.words import counted

_LABELS = {
    "user": "People",
    "invite": "Invitations",
    "image": "Conversations",
    "message": "Messages",
    "file": "Files",
    "kv": "Unreadable rows",
}


class Command(BaseCommand):
    """Exit codes: 0 everything is here, 1 some rows were rejected, 3 usage."""

    help = "Bring people (with their passwords), invitations and conversations over from Portagent. A second run changes nothing."
    # Settings only: those of the code need every page and a second; `check`, `migrate` and every start have them.
    requires_system_checks: list[str] = ["switchboard"]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", type=Path, help="AGENTX_DIR, its data folder, one database, or a file of rejects.")
        parser.add_argument("--dry-run", action="store_true", help="Say what would be done, and change nothing.")
        parser.add_argument("--json", action="store_true", help="One JSON object a line: findings, then the summary.")
        parser.add_argument("--rejects", type=Path, metavar="FILE", help="Where rows go that could not be imported.")
        parser.add_argument("--agent", default="", help="Who answers the conversations from now on: name or id.")
        parser.add_argument("--orphans", default="", metavar="USERNAME", help="Who gets conversations of nobody.")
        parser.add_argument(
            "--match", action="store_true", help="Same name or e-mail as somebody here: the same person."
        )
        parser.add_argument("--operators", action="store_true", help="Portagent's administrators become operators.")
        parser.add_argument("--every-row", action="store_true", help="Tell of every row, not of trouble only.")

    def handle(self, *args: Any, path: Path, **options: Any) -> None:
        rejects = options["rejects"]
        if rejects is None and not options["dry_run"]:
            rejects = _unused_name()
        orphans = self._person(options["orphans"])
        wishes = Wishes(options["match"], options["operators"], orphans.pk if orphans is not None else None)
        agent = self._agent(options["agent"])

        def tell(finding: Finding) -> None:
            if options["json"]:
                self.stdout.write(json.dumps(finding.to_dict(), ensure_ascii=False))
            elif options["every_row"] or finding.severity != "info":
                mark = {"info": "●", "warning": "▲"}.get(finding.severity, "■")
                self.stdout.write(f"{mark} {finding.sentence}")

        try:
            report = portagent_import(
                path=path.expanduser(),
                dry_run=options["dry_run"],
                agent=agent,
                wishes=wishes,
                rejects=rejects,
                on_finding=tell,
                actor="command",
            )
        except (NotPortagent, LockHeld) as error:
            raise CommandError(str(error), returncode=3) from None
        if options["json"]:
            self.stdout.write(json.dumps({"summary": report.to_dict()}, ensure_ascii=False))
        else:
            self._print(report, agent)
        if report.rejects:
            sys.exit(1)

    def _print(self, report: ImportReport, agent: Agent | None) -> None:
        for file, what in report.found.items():
            self.stdout.write(f"○ {what}: {file}")
        table = Table(
            "", "new" if not report.dry_run else "would be new", "here", "changed there", "rejected", box=None
        )
        for kind, label in _LABELS.items():
            numbers = [report.counts[action][kind] for action in ("create", "unchanged", "changed", "reject")]
            if any(numbers):
                table.add_row(label, *(f"{number:,}" for number in numbers))
        console_of(self.stdout).print(table)
        if report.dry_run:
            self.stdout.write("○ Nothing was changed (--dry-run).")
        if report.rejects_path:
            sentence = f"{counted(report.rejects, 'row is', 'rows are')} in {report.rejects_path}."
            self.stdout.write(f"■ {sentence} Mend them there, and import that file.")
        if report.read_only:
            self.stdout.write(
                f"▲ {counted(report.read_only, 'conversation')} can be read but not continued: no agent was chosen. Choose one by "
                "running this again with --agent NAME."
            )

    def _agent(self, name: str) -> Agent | None:
        if not name:
            return None
        found = find_agents(name)
        if len(found) != 1:
            some = ", ".join(f"{agent.name} ({agent.external_id})" for agent in found[:5]) or "none"
            raise CommandError(f"--agent {name!r} must be one agent; found: {some}.", returncode=3)
        return found[0]

    def _person(self, username: str) -> Person | None:
        if not username:
            return None
        person = Person.objects.filter(username=username).first()
        if person is None:
            raise CommandError(f"--orphans: there is no person called {username!r}.", returncode=3)
        return person


def _unused_name() -> Path:
    """A file that is not there: rejects of an earlier run may still be wanted."""
    number, path = 1, Path("portagent-rejects.jsonl")
    while path.exists():
        number += 1
        path = Path(f"portagent-rejects-{number}.jsonl")
    return path
