"""``manage.py agent_files``: Letta's agents that a restore brought along."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from agents.services import agent_files
from ops.locks import LockHeld


class Command(BaseCommand):
    """Exit codes: 0 done, 1 some could not be made again."""

    help = "Agents of Letta that a restore brought as files: list them, make again those that their server lost, or forget them."
    # Settings only: those of the code need every page and a second; `check`, `migrate` and every start have them.
    requires_system_checks: list[str] = ["switchboard"]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("what", choices=("list", "import", "discard"), nargs="?", default="list")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["what"] == "list":
            for service, external_id, path in agent_files.waiting():
                self.stdout.write(f"○ {external_id} on {service} ({path.stat().st_size:,} bytes)")
        elif options["what"] == "discard":
            self.stdout.write(f"● {agent_files.agent_files_discard()} removed.")
        else:
            try:
                found = agent_files.agent_files_import(actor="command", progress=lambda name: self.stderr.write(name))
            except LockHeld as error:
                raise CommandError("Another process is making agents again. Try again when it has ended.") from error
            self.stdout.write(("■ " if found.failed else "● ") + found.sentence)
            if found.failed:
                raise CommandError("\n".join(f"{name}: {why}" for name, why in found.failed.items()))
