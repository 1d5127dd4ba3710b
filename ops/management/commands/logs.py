"""Shows the kept lines of all processes, and follows them."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.text import Text

from ops.choices import LogLevel
from ops.logbook import reader
from ops.logbook.rows import RANKS
from ops.logbook.signatures import Dictionary
from ops.models import LogLine
from ops.terminal import LAMP_COLOURS, console_of, lamp_text

_EVERY = 1.0


class Command(BaseCommand):
    help = "Show the recent log lines of all processes, oldest first. With -f new ones follow until Ctrl-C."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("text", nargs="*", help="Words that must all stand in the line.")
        parser.add_argument("-f", "--follow", action="store_true", help="Go on with new lines.")
        parser.add_argument("-n", "--lines", type=int, default=50, help="How many of the last lines (50).")
        parser.add_argument("--level", choices=tuple(RANKS), default="info", help="The least level (info).")
        for name, what in (
            ("agent", "an agent's name"),
            ("service", "a service"),
            ("message", "a message's id"),
            ("request", "a request's id"),
            ("logger", "a logger and those below it"),
            ("role", "up, web, worker or beat"),
            ("process", "one process"),
        ):
            parser.add_argument(f"--{name}", default="", help=f"Only lines of {what}.")
        parser.add_argument("--minutes", default="", help="Only lines of the last minutes.")
        parser.add_argument("--explain", action="store_true", help="Say what known errors mean.")
        parser.add_argument("--json", action="store_true", help="One JSON object a line.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            wanted = reader.LogFilter.parse({**options, "text": " ".join(options["text"])})
        except reader.FilterInvalid as error:
            raise CommandError(str(error)) from None
        count = max(0, min(options["lines"], 100_000))
        newest = LogLine.objects.order_by("-id").values_list("id", flat=True).first() or 0
        rows = reader.oldest_first(reader.lines(wanted).filter(id__lte=newest)[:count])
        self._console = console_of(self.stdout, plain_width=100_000)
        self._dictionary = Dictionary() if options["explain"] else None
        self._json = options["json"]
        for line in rows:
            self._print(line)
        if not rows and not options["follow"]:
            self.stderr.write("No line fits. With --level debug, or fewer conditions, there may be some.")
        if options["follow"]:
            self._follow(wanted, newest, {line.pk for line in rows})

    def _follow(self, wanted: reader.LogFilter, newest: int, shown: set[int]) -> None:
        try:
            while True:
                for line in reader.behind(wanted, newest, most=500):
                    newest = max(newest, line.pk)
                    if line.pk not in shown:
                        shown.add(line.pk)
                        self._print(line)
                if len(shown) > 5000:
                    shown = {pk for pk in shown if pk > newest - 2000}
                time.sleep(_EVERY)
        except KeyboardInterrupt:
            return

    def _print(self, line: LogLine) -> None:
        if self._json:
            self.stdout.write(reader.as_jsonl(line))
            return
        lamp = LogLevel(line.level).lamp
        text = reader.as_text(line)
        head, _, rest = text.partition(f" {line.level:<7} ")
        self._console.print(
            Text(f"{head[11:-1]} ", style="dim") + lamp_text(lamp, line.level) + Text(f" {rest}"), soft_wrap=True
        )
        known = self._dictionary.of_line(line) if self._dictionary is not None else None
        if known is not None:
            self._console.print(Text(f"    {known.meaning} {known.remedy}", style=LAMP_COLOURS[lamp]), soft_wrap=True)
            if known.check:
                self._console.print(Text(f"    manage.py doctor {known.check}", style="dim"), soft_wrap=True)
