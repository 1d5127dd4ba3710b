"""Changes how much a logger says, in every process, for a while."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from ops.logbook.levels import WELL_KNOWN
from ops.logbook.rows import RANKS
from ops.logbook.status import running
from ops.services.logbook import current_levels, log_level_clear, log_level_set
from ops.terminal import console_of


class Command(BaseCommand):
    help = "Set the level of a logger for some minutes, without a restart; without arguments show what is set."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("logger", nargs="?", default="", help=f"For example {', '.join(WELL_KNOWN[:6])}.")
        parser.add_argument(
            "level", nargs="?", default="", choices=("", *RANKS, "ordinary"), help="ordinary takes it back."
        )
        parser.add_argument("--minutes", type=float, default=15.0, help="It falls back by itself (15).")

    def handle(self, *args: Any, **options: Any) -> None:
        console = console_of(self.stdout)
        logger, level = options["logger"], options["level"]
        if bool(logger) != bool(level):
            raise CommandError("Name a logger and a level, or neither.")
        if logger and level == "ordinary":
            done = log_level_clear(logger=logger, actor="command")
            console.print(f"{logger} {'has' if done else 'had'} its ordinary level.")
            return
        if logger:
            try:
                until = log_level_set(logger=logger, level=level, minutes=options["minutes"], actor="command")
            except ValidationError as error:
                raise CommandError(" ".join(error.messages)) from None
            count = len(running())
            where = "the one process that runs" if count == 1 else f"all {count} processes"
            console.print(f"{logger} is at {level} until {until:%H:%M} UTC, in {where}.")
            console.print("Follow it: python manage.py logs -f --level debug --logger " + logger, soft_wrap=True)
            return
        levels = current_levels()
        for name, one in sorted(levels.items()):
            console.print(f"{name}: {one['level']} until {(one['until'] or 'somebody takes it back')[:16]}")
        if not levels:
            console.print("All loggers have their ordinary level.")
