"""``manage.py idle_process``: a process that does nothing but report itself, for showing what the doctor sees."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ops.doctor.faults import FaultRefused, refuse_outside_demo
from ops.models.process import ProcessRole
from ops.processes.idle import Manners, run


class Command(BaseCommand):
    help = "A process that does nothing but report itself and misbehave as told. For demonstrations only."
    # Settings only: those of the code need every page and a second; `check`, `migrate` and every start have them.
    requires_system_checks: list[str] = ["switchboard"]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--role", choices=ProcessRole.values, default="worker", help="What it says that it is.")
        parser.add_argument("--eat-mb", type=int, default=0, help="Memory to take.")
        parser.add_argument("--burn", action="store_true", help="Keep a processor busy.")
        parser.add_argument("--never-ready", action="store_true", help="Never say that it is ready.")
        parser.add_argument(
            "--grew-mb", type=int, default=0, help="A made-up past of six hours in which it grew by so much."
        )
        parser.add_argument("--cgroup", default="", help="A folder that stands for its control group.")
        parser.add_argument("--age", type=float, default=0.0, help="Seconds since it is said to have started.")
        parser.add_argument("--seconds", type=float, default=900.0, help="How long it lives at most.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            refuse_outside_demo()
        except FaultRefused as error:
            raise CommandError(str(error)) from error
        names = ("role", "eat_mb", "burn", "never_ready", "grew_mb", "cgroup", "age", "seconds")
        run(Manners(**{name: options[name] for name in names}))
