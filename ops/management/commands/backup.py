"""Makes backups and looks after them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser
from django.utils.dateparse import parse_time

from ops.backup import report
from ops.backup.errors import BackupError
from ops.management.backup_destinations import DestinationCommands
from ops.management.backup_keys import KeyCommands
from ops.management.talking import read_secret
from ops.models.backup import Backup, BackupDestination, BackupReason, BackupState
from ops.services import backup_pruning, backup_schedule, backups
from ops.services.backup_copies import copies_store, copies_wanted
from ops.terminal import console_of

ACTOR = "command"


class Command(KeyCommands, DestinationCommands):
    help = (
        "Backups: one encrypted file with rows, files and keys. Exit codes: 0 well, 1 not everywhere or not good, 2 failed, 3 wrong words. "
        "How to: docs/backup.md."
    )
    # Settings only: those of the code need every page and a second; `check`, `migrate` and every start have them.
    requires_system_checks: list[str] = ["switchboard"]

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="what", required=True)

        def sub(name: str, help: str) -> argparse.ArgumentParser:
            one: argparse.ArgumentParser = commands.add_parser(name, help=help)
            one.add_argument("--json", action="store_true", dest="as_json", help="One JSON document on standard out.")
            return one

        create = sub("create", "Make a backup now, in this process.")
        create.add_argument("--note", default="", help="What it is for.")
        create.add_argument("--with", dest="optional", default="", help="Optional parts, separated by commas.")
        create.add_argument("--pin", action="store_true", help="Never remove it by the rules.")
        create.add_argument("--drill", action="store_true", help="Restore it into a scratch place right afterwards.")
        listing = sub("list", "What there is, the newest first.")
        listing.add_argument("--limit", type=int, default=20)
        listing.add_argument("--look", action="store_true", help="Look at the destinations first: finds files again.")
        show = sub("show", "Everything about one backup.")
        show.add_argument("name", nargs="?", default="", help="Name, beginning of it, or id. Empty: the newest.")
        verify = sub("verify", "Read a backup to its end and compare every checksum; a file as well.")
        verify.add_argument("name", nargs="?", default="", help="Name, beginning of it, id or path. Empty: the newest.")
        verify.add_argument("--at", default="", metavar="DESTINATION", help="The copy there.")
        verify.add_argument("--key-file", default="", help="A file with an age secret key, for a file of elsewhere.")
        drill = sub("drill", "Restore a backup into a scratch place, test it, and throw that away.")
        drill.add_argument("name", nargs="?", default="", help="Empty: the newest.")
        drill.add_argument("--at", default="", metavar="DESTINATION", help="The copy there.")
        prune = sub("prune", "Remove what the rules of the destinations do not keep.")
        prune.add_argument("--dry-run", action="store_true", help="Only say it.")
        copy = sub("copy", "Bring a backup to the destinations that do not have it.")
        copy.add_argument("name", nargs="?", default="")
        for name, help in (("pin", "Keep a backup whatever the rules say."), ("unpin", "Leave it to the rules again.")):
            sub(name, help).add_argument("name")
        delete = sub("delete", "Remove a backup with all its copies.")
        delete.add_argument("name")
        delete.add_argument("--yes", action="store_true", help="Do not ask.")
        self.key_arguments(sub("key", "Keys that open backups: list, new, add, confirm, retire."))
        self.destination_arguments(sub("destination", "Where copies go: list, add, set, test, on, off, remove."))
        plan = sub("plan", "When backups are made by themselves. Without options: say it.")
        plan.add_argument("--every-hours", type=int)
        plan.add_argument("--at", help="Time of day as HH:MM; - for none.")
        plan.add_argument("--timezone")
        plan.add_argument("--jitter-minutes", type=int)
        plan.add_argument("--with", dest="contents", help="Optional parts, separated by commas; - for none.")
        plan.add_argument("--drill-every-days", type=int)
        plan.add_argument("--on", dest="enabled", action="store_true", default=None)
        plan.add_argument("--off", dest="enabled", action="store_false")

    def handle(self, *args: Any, what: str, **options: Any) -> None:
        self.console = console_of(self.stderr if options.get("as_json") else self.stdout, plain_width=140)
        try:
            getattr(self, f"do_{what}")(options)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages), returncode=3) from None
        except ValueError as error:
            raise CommandError(str(error), returncode=3) from None
        except BackupError as error:
            raise CommandError(str(error), returncode=2) from None

    # What there is

    def do_list(self, options: dict[str, Any]) -> None:
        if options["look"]:
            for finding in backups.backup_sync_list(actor=ACTOR):
                self.stderr.write(finding.sentence)
        rows = list(
            Backup.objects.defer("manifest").prefetch_related("copies__destination")[: max(1, options["limit"])]
        )
        if options["as_json"]:
            self.json_out([report.backup_dict(row) for row in rows])
        else:
            report.print_list(self.console, rows)
            self.warn()

    def do_show(self, options: dict[str, Any]) -> None:
        row = self._backup(options["name"])
        if options["as_json"]:
            self.json_out({**report.backup_dict(row), "manifest": row.manifest})
        else:
            report.print_one(self.console, row)

    # Making and proving

    def do_create(self, options: dict[str, Any]) -> None:
        optional = _split(options["optional"])
        backups.check_optional(optional)
        backup = backups.backup_now(
            actor=ACTOR, reason=BackupReason.MANUAL, note=options["note"], optional=optional, pinned=options["pin"],
            progress=self.progress(),
        )  # fmt: skip
        pruned = backup_pruning.prune(dry_run=False, actor=ACTOR)
        good = self._drill_one(backup, None) if options["drill"] else True
        backup.refresh_from_db()
        if options["as_json"]:
            self.json_out(report.backup_dict(backup))
        else:
            report.print_one(self.console, backup)
            if pruned.removed:
                self.console.print(f"{pruned.removed} older copies were removed by the rules.")
            self.warn()
        if backup.state != BackupState.COMPLETE or not good:
            sys.exit(1)

    def do_verify(self, options: dict[str, Any]) -> None:
        path = Path(options["name"]) if options["name"] else None
        if path is not None and path.is_file():
            self._verify_file(path, options)
            return
        row = self._backup(options["name"])
        findings = backups.backup_verify(
            backup=row, actor=ACTOR, destination=self.destination(options["at"]) if options["at"] else None,
            progress=self.progress(),
        )  # fmt: skip
        if options["as_json"]:
            self.json_out({"name": row.name, "ok": not row.verify_error, "findings": findings})
        for finding in findings:
            self.stderr.write(finding["sentence"])
        if row.verify_error:
            raise CommandError(f"{row.name} is damaged. {row.verify_error}", returncode=2)
        if not options["as_json"]:
            self.console.print(f"{row.name} is what it was when it was made.")

    def _verify_file(self, path: Path, options: dict[str, Any]) -> None:
        from ops.backup.verify import verify_backup

        identities = [read_secret(options["key_file"])] if options["key_file"] else None
        found = verify_backup(path, identities=identities, progress=self.progress())
        if options["as_json"]:
            self.json_out({"name": path.name, "ok": found.ok, "findings": [one.to_dict() for one in found.findings]})
        for finding in found.findings:
            self.stderr.write(finding.sentence)
        if not found.ok:
            raise CommandError(f"{path} is damaged.", returncode=2)
        if not options["as_json"]:
            self.console.print(f"{path} is whole. SHA-256 {found.sha256}")

    def do_drill(self, options: dict[str, Any]) -> None:
        row = self._backup(options["name"])
        if not self._drill_one(row, self.destination(options["at"]) if options["at"] else None, options["as_json"]):
            sys.exit(1)

    def _drill_one(self, row: Backup, destination: BackupDestination | None, as_json: bool = False) -> bool:
        from ops.services.drills import drill_now

        drill = drill_now(backup=row, destination=destination, actor=ACTOR)
        if as_json:
            self.json_out(report.drill_dict(drill))
        else:
            report.print_drill(self.console, drill)
        return drill.state == "passed"

    def do_prune(self, options: dict[str, Any]) -> None:
        found = backup_pruning.prune(dry_run=options["dry_run"], actor=ACTOR)
        if options["as_json"]:
            self.json_out(found.to_dict())
        else:
            report.print_pruning(self.console, found, options["dry_run"])
        if found.findings:
            sys.exit(1)

    def do_copy(self, options: dict[str, Any]) -> None:
        row = self._backup(options["name"])
        copies_wanted(row)
        everywhere = copies_store(backup=row, actor=ACTOR, progress=self.progress())
        row.refresh_from_db()
        if options["as_json"]:
            self.json_out(report.backup_dict(row))
        else:
            report.print_one(self.console, row)
        if not everywhere:
            sys.exit(1)

    def do_pin(self, options: dict[str, Any]) -> None:
        row = backups.backup_pin(backup=self._backup(options["name"]), pinned=True, actor=ACTOR)
        self.console.print(f"{row.name} is kept whatever the rules say.")

    def do_unpin(self, options: dict[str, Any]) -> None:
        row = backups.backup_pin(backup=self._backup(options["name"]), pinned=False, actor=ACTOR)
        self.console.print(f"{row.name} is left to the rules.")

    def do_delete(self, options: dict[str, Any]) -> None:
        row = self._backup(options["name"])
        if not options["yes"] and not self.agreed(f"Remove {row.name} with all its copies?"):
            raise CommandError("Nothing was removed. Add --yes to agree beforehand.", returncode=2)
        backups.backup_delete(backup=row, actor=ACTOR)
        self.console.print(f"{row.name} is removed.")

    # The plan

    def do_plan(self, options: dict[str, Any]) -> None:
        row = backup_schedule.plan()
        new: dict[str, Any] = {
            key: options[key] if options[key] is not None else getattr(row, key)
            for key in ("enabled", "every_hours", "timezone", "jitter_minutes", "drill_every_days")
        }
        new["at"] = row.at if options["at"] is None else None if options["at"] == "-" else parse_time(options["at"])
        if options["at"] not in (None, "-") and new["at"] is None:
            raise ValueError("Give the time of day as HH:MM.")
        contents = options["contents"]
        new["contents"] = row.contents if contents is None else [] if contents == "-" else _split(contents)
        row = backup_schedule.plan_save(actor=ACTOR, **new)
        if options["as_json"]:
            self.json_out(report.plan_dict(row))
        else:
            report.print_plan(self.console, row)

    def _backup(self, word: str) -> Backup:
        if not word:
            row = backups.newest() or Backup.objects.exclude(state=BackupState.RUNNING).first()
            if row is None:
                raise ValueError("There is no backup yet. Make one: manage.py backup create")
            return row
        return report.find(word)


def _split(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]
