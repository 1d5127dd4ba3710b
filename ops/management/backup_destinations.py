"""``backup destination``: where copies go."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ops.backup import report
from ops.management.talking import TalkingCommand, read_secret
from ops.models.backup import BackupDestination
from ops.services import backup_destinations

ACTOR = "command"
_RULES = ("keep_last", "keep_daily", "keep_weekly", "keep_monthly")


class DestinationCommands(TalkingCommand):
    """List, add, change, test, switch and forget destinations."""

    def destination_arguments(self, parser: argparse.ArgumentParser) -> None:
        actions = ("list", "add", "set", "test", "on", "off", "remove")
        parser.add_argument("action", nargs="?", default="list", choices=actions)
        parser.add_argument("name", nargs="?", default="")
        parser.add_argument("--folder", default="", metavar="PATH")
        parser.add_argument("--bucket", default="")
        parser.add_argument("--endpoint-url", default="")
        parser.add_argument("--prefix", default="")
        parser.add_argument("--region", default="")
        parser.add_argument("--addressing", default="", choices=("", "auto", "path", "virtual"))
        parser.add_argument("--access-key", default="", help="The secret key is asked for, or read from --secret-file.")
        parser.add_argument("--secret-file", default="", help="A file with the secret key (- standard in).")
        for name in _RULES:
            parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=None)

    def destination(self, name: str) -> BackupDestination:
        row = BackupDestination.objects.filter(name=name).first()
        if row is None:
            known = ", ".join(BackupDestination.objects.values_list("name", flat=True)) or "none yet"
            raise ValueError(f"There is no destination {name!r}; there are: {known}.")
        return row

    def do_destination(self, options: dict[str, Any]) -> None:
        action, name = options["action"], options["name"]
        if action == "list":
            backup_destinations.ensure_one()
            rows = list(BackupDestination.objects.all())
            if options["as_json"]:
                self.json_out([report.destination_dict(row) for row in rows])
            else:
                report.print_destinations(self.console, rows)
            return
        if action in ("add", "set"):
            row = self._destination_save(None if action == "add" else self.destination(name), options)
        else:
            row = self.destination(name)
        if action in ("on", "off"):
            backup_destinations.destination_switch(destination=row, enabled=action == "on", actor=ACTOR)
            self.console.print(f"{row.name} is switched {action}.")
            return
        if action == "remove":
            backup_destinations.destination_remove(destination=row, actor=ACTOR)
            self.console.print(f"{row.name} is forgotten; the files there stay.")
            return
        outcome = backup_destinations.destination_test(destination=row, actor=ACTOR)
        self.console.print(f"{'●' if outcome.ok else '✕'} {row.name}: {outcome.sentence}")
        if not outcome.ok:
            sys.exit(1)

    def _destination_save(self, row: BackupDestination | None, options: dict[str, Any]) -> BackupDestination:
        given = {
            key: options[key] for key in ("bucket", "endpoint_url", "prefix", "region", "addressing") if options[key]
        }
        kind = "s3" if options["bucket"] else "folder" if options["folder"] else (row.kind if row else "folder")
        if options["folder"]:
            given["path"] = options["folder"]
        kept = dict(row.options) if row is not None and row.kind == kind else {}
        credentials = None
        if options["access_key"]:
            secret = read_secret(options["secret_file"]) if options["secret_file"] else self.ask("Secret key: ")
            credentials = {"access_key": options["access_key"], "secret_key": secret}
        rules = {
            key: options[key] if options[key] is not None else getattr(row or BackupDestination(), key)
            for key in _RULES
        }
        return backup_destinations.destination_save(
            actor=ACTOR, destination=row, name=options["name"], kind=kind, options={**kept, **given},
            credentials=credentials, enabled=row.enabled if row is not None else True, **rules,
        )  # fmt: skip
