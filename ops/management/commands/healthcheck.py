"""``manage.py healthcheck --service X``: a probe for compose files and systemd units that can fail.

Exit code 0 when the service does its work, 1 when it does not. Two seconds at most, apart from Python's own start.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Whether web, worker, beat or up does its work on this machine. Ends with 0 or 1."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--service", required=True, choices=("web", "worker", "beat", "up"))
        parser.add_argument("--wait", type=float, default=0.0, help="Seconds in which it may still become well.")

    def handle(self, *args: Any, **options: Any) -> None:
        from ops.processes.probe import why_not_well

        until = time.monotonic() + options["wait"]
        while problem := why_not_well(options["service"]):
            if time.monotonic() >= until:
                self.stderr.write(problem)
                sys.exit(1)
            time.sleep(0.5)
        self.stdout.write(f"{options['service']}: well")
