"""``manage.py dead_letters``: what was not answered or not delivered; try it again, or discard it."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.table import Table

from chat.models import Delivery, Turn
from chat.queries import dead_deliveries, dead_turns
from chat.services.deliveries import delivery_discard, delivery_retry
from chat.services.turns import WrongState, turn_discard, turn_retry
from ops.terminal import console_of

# What a letter is called on the command line: turn:17, delivery:23.
_KINDS: dict[str, tuple[Any, dict[str, Callable[..., Any]]]] = {
    "turn": (Turn, {"retry": turn_retry, "discard": turn_discard}),
    "delivery": (Delivery, {"retry": delivery_retry, "discard": delivery_discard}),
}


class Command(BaseCommand):
    """Exit codes: 0 done, 1 some could not be changed, 3 usage."""

    help = "Lists dead letters: messages not answered (turn:ID) and answers not delivered (delivery:ID)."
    # Settings only: those of the code need every page and a second; `check`, `migrate` and every start have them.
    requires_system_checks: list[str] = ["switchboard"]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", nargs="?", choices=["list", "retry", "discard"], default="list")
        parser.add_argument("letters", nargs="*", metavar="turn:ID|delivery:ID", help="Which ones.")
        parser.add_argument("--all", action="store_true", help="All that are listed.")
        parser.add_argument("--json", action="store_true", dest="as_json", help="The list as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["action"] == "list":
            self._list(options["as_json"])
            return
        letters = self._all() if options["all"] else options["letters"]
        if not letters and not options["all"]:
            raise CommandError("Name the letters (turn:17 delivery:23), or give --all.", returncode=3)
        failed = 0
        for letter in letters:
            kind, row = self._find(letter)
            try:
                _KINDS[kind][1][options["action"]](**{kind: row, "actor": "command"})
            except WrongState as error:
                failed += 1
                self.stderr.write(f"■ {letter}: {error.sentence}")
            else:
                self.stdout.write(f"● {letter}: {'tried again' if options['action'] == 'retry' else 'discarded'}")
        if failed:
            sys.exit(1)

    def _find(self, letter: str) -> tuple[str, Any]:
        kind, _, pk = letter.partition(":")
        if kind not in _KINDS or not pk.isdigit():
            raise CommandError(f"{letter!r} is not a letter; write turn:17 or delivery:23.", returncode=3)
        row = _KINDS[kind][0].objects.filter(pk=int(pk)).first()
        if row is None:
            raise CommandError(f"There is no {kind} {pk}.", returncode=3)
        return kind, row

    def _all(self) -> list[str]:
        return [f"turn:{row.pk}" for row in dead_turns()] + [f"delivery:{row.pk}" for row in dead_deliveries()]

    def _list(self, as_json: bool) -> None:
        rows = [
            (f"turn:{row.pk}", row.finished_at, row.agent.name, row.get_state_display(), row.error_reason)
            for row in dead_turns()
        ] + [
            (
                f"delivery:{row.pk}",
                row.created_at,
                str(row.room or row.target),
                row.get_state_display(),
                row.error_reason,
            )
            for row in dead_deliveries()
        ]
        if as_json:
            keys = ("letter", "at", "where", "state", "reason")
            self.stdout.write(json.dumps([dict(zip(keys, row, strict=True)) for row in rows], default=str, indent=2))
            return
        if not rows:
            self.stdout.write("● There are no dead letters.")
            return
        table = Table("Letter", "At (UTC)", "Where", "State", "Reason", box=None, pad_edge=False)
        for letter, at, where, state, reason in rows:
            table.add_row(letter, f"{at:%m-%d %H:%M}" if at else "—", where[:20], state, reason[:60])
        console_of(self.stdout).print(table)
        self.stdout.write("To try one again: manage.py dead_letters retry turn:ID    To give it up: … discard turn:ID")
