"""``manage.py stack status|start``: what runs, in the order in which it starts, and starting what does not."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from rich.table import Table

from ops.choices import Lamp
from ops.doctor.repairs import RepairRefused
from ops.locks import LockHeld
from ops.terminal import console_of, lamp_text

_LAMPS = {"ready": Lamp.GOOD, "starting": Lamp.WORKING, "hangs": Lamp.TROUBLE, "down": Lamp.TROUBLE}


class Command(BaseCommand):
    """Exit codes: 0 everything is ready, 2 something is not, 4 the start was tried and failed or is not possible."""

    help = "Show what runs of Switchboard, or start what does not, each part when what it needs is ready."
    # Settings only: those of the code need every page and a second; `check`, `migrate` and every start have them.
    requires_system_checks: list[str] = ["switchboard"]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=("status", "start"))
        parser.add_argument("--json", action="store_true", help="The nodes as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        code = self._start() if options["action"] == "start" else 0
        from ops.doctor_services.stack import status

        nodes = status()
        if options["json"]:
            self.stdout.write(json.dumps([node.to_dict() for node in nodes]))
        else:
            table = Table("Part", "State", "Needs", "Ready after", "", box=None, pad_edge=False, padding=(0, 2, 0, 0))
            for node in nodes:
                took = f"{node.ready_after:.1f} s" if node.ready_after is not None else ""
                lamp = lamp_text(_LAMPS.get(node.state, Lamp.ATTENTION), node.state)
                table.add_row(node.name, lamp, ", ".join(node.needs), took, node.sentence)
            console_of(self.stdout).print(table)
        sys.exit(code or (0 if all(node.state == "ready" for node in nodes) else 2))

    def _start(self) -> int:
        from ops.services.repairs import repair_start

        try:
            run = repair_start(repair_id="stack.start", actor="command", trigger="command")
        except (RepairRefused, LockHeld) as error:
            self.stderr.write(str(error))
            return 4
        self.stderr.write(run.error or run.sentence)
        return 4 if run.state == "failed" else 0
