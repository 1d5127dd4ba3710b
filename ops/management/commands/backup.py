"""Makes backups and looks after them."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.dateparse import parse_time

from ops.backup import report
from ops.backup.errors import BackupError
from ops.models.backup import Backup, BackupDestination, BackupKey, BackupReason, BackupState
from ops.services import backup_destinations, backup_keys, backup_pruning, backup_schedule, backups
from ops.services.backup_copies import copies_store, copies_wanted
from ops.terminal import console_of

ACTOR = "command"
_RULES = ("keep_last", "keep_daily", "keep_weekly", "keep_monthly")


class Command(BaseCommand):
    help = (
        "Backups: one encrypted file with rows, files and keys. Exit codes: 0 well, 1 not everywhere or not good, 2 failed, 3 wrong words. "
        "How to: docs/backup.md."
    )

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
        self._key_arguments(sub("key", "Keys that open backups: list, new, add, confirm, retire."))
        self._destination_arguments(sub("destination", "Where copies go: list, add, set, test, on, off, remove."))
        plan = sub("plan", "When backups are made by themselves. Without options: say it.")
        plan.add_argument("--every-hours", type=int)
        plan.add_argument("--at", help="Time of day as HH:MM; - for none.")
        plan.add_argument("--timezone")
        plan.add_argument("--jitter-minutes", type=int)
        plan.add_argument("--with", dest="contents", help="Optional parts, separated by commas; - for none.")
        plan.add_argument("--drill-every-days", type=int)
        plan.add_argument("--on", dest="enabled", action="store_true", default=None)
        plan.add_argument("--off", dest="enabled", action="store_false")

    def _key_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("action", nargs="?", default="list", choices=("list", "new", "add", "confirm", "retire"))
        parser.add_argument("key", nargs="?", default="", help="Label (new), age1… (add), label or fingerprint.")
        parser.add_argument("--label", default="", help="For add.")
        parser.add_argument(
            "--secret-file", default="", help="For confirm: read the secret key from here (- standard in)."
        )
        parser.add_argument(
            "--unconfirmed",
            action="store_true",
            help="For new: do not ask for it at once; it counts only when confirmed.",
        )

    def _destination_arguments(self, parser: argparse.ArgumentParser) -> None:
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
            self._json([report.backup_dict(row) for row in rows])
        else:
            report.print_list(self.console, rows)
            self._warn()

    def do_show(self, options: dict[str, Any]) -> None:
        row = self._backup(options["name"])
        if options["as_json"]:
            self._json({**report.backup_dict(row), "manifest": row.manifest})
        else:
            report.print_one(self.console, row)

    # Making and proving

    def do_create(self, options: dict[str, Any]) -> None:
        optional = _split(options["optional"])
        backups.check_optional(optional)
        backup = backups.backup_now(
            actor=ACTOR, reason=BackupReason.MANUAL, note=options["note"], optional=optional, pinned=options["pin"],
            progress=self._progress(),
        )  # fmt: skip
        pruned = backup_pruning.prune(dry_run=False, actor=ACTOR)
        good = self._drill_one(backup, None) if options["drill"] else True
        backup.refresh_from_db()
        if options["as_json"]:
            self._json(report.backup_dict(backup))
        else:
            report.print_one(self.console, backup)
            if pruned.removed:
                self.console.print(f"{pruned.removed} older copies were removed by the rules.")
            self._warn()
        if backup.state != BackupState.COMPLETE or not good:
            sys.exit(1)

    def do_verify(self, options: dict[str, Any]) -> None:
        path = Path(options["name"]) if options["name"] else None
        if path is not None and path.is_file():
            self._verify_file(path, options)
            return
        row = self._backup(options["name"])
        findings = backups.backup_verify(
            backup=row, actor=ACTOR, destination=self._destination(options["at"]) if options["at"] else None,
            progress=self._progress(),
        )  # fmt: skip
        if options["as_json"]:
            self._json({"name": row.name, "ok": not row.verify_error, "findings": findings})
        for finding in findings:
            self.stderr.write(finding["sentence"])
        if row.verify_error:
            raise CommandError(f"{row.name} is damaged. {row.verify_error}", returncode=2)
        if not options["as_json"]:
            self.console.print(f"{row.name} is what it was when it was made.")

    def _verify_file(self, path: Path, options: dict[str, Any]) -> None:
        from ops.backup.verify import verify_backup

        identities = [_read(options["key_file"])] if options["key_file"] else None
        found = verify_backup(path, identities=identities, progress=self._progress())
        if options["as_json"]:
            self._json({"name": path.name, "ok": found.ok, "findings": [one.to_dict() for one in found.findings]})
        for finding in found.findings:
            self.stderr.write(finding.sentence)
        if not found.ok:
            raise CommandError(f"{path} is damaged.", returncode=2)
        if not options["as_json"]:
            self.console.print(f"{path} is whole. SHA-256 {found.sha256}")

    def do_drill(self, options: dict[str, Any]) -> None:
        row = self._backup(options["name"])
        if not self._drill_one(row, self._destination(options["at"]) if options["at"] else None, options["as_json"]):
            sys.exit(1)

    def _drill_one(self, row: Backup, destination: BackupDestination | None, as_json: bool = False) -> bool:
        from ops.services.drills import drill_now

        drill = drill_now(backup=row, destination=destination, actor=ACTOR)
        if as_json:
            self._json(report.drill_dict(drill))
        else:
            report.print_drill(self.console, drill)
        return drill.state == "passed"

    def do_prune(self, options: dict[str, Any]) -> None:
        found = backup_pruning.prune(dry_run=options["dry_run"], actor=ACTOR)
        if options["as_json"]:
            self._json(found.to_dict())
        else:
            report.print_pruning(self.console, found, options["dry_run"])
        if found.findings:
            sys.exit(1)

    def do_copy(self, options: dict[str, Any]) -> None:
        row = self._backup(options["name"])
        copies_wanted(row)
        everywhere = copies_store(backup=row, actor=ACTOR, progress=self._progress())
        row.refresh_from_db()
        if options["as_json"]:
            self._json(report.backup_dict(row))
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
        if not options["yes"] and not self._agreed(f"Remove {row.name} with all its copies?"):
            raise CommandError("Nothing was removed. Add --yes to agree beforehand.", returncode=2)
        backups.backup_delete(backup=row, actor=ACTOR)
        self.console.print(f"{row.name} is removed.")

    # Keys

    def do_key(self, options: dict[str, Any]) -> None:
        action, word = options["action"], options["key"]
        if action == "list":
            rows = list(BackupKey.objects.all())
            if options["as_json"]:
                self._json([report.key_dict(row) for row in rows])
            else:
                report.print_keys(self.console, rows)
                self._warn()
            return
        if action == "new":
            self._key_new(word or options["label"] or "recovery key", options)
            return
        if action == "add":
            key = backup_keys.key_add(label=options["label"] or "added key", recipient=word, actor=ACTOR)
            self.console.print(
                f"{key.label} ({key.fingerprint}) is known. It counts when it is confirmed: backup key confirm {key.fingerprint}"
            )
            return
        key = self._find_key(word)
        if action == "confirm":
            secret = _read(options["secret_file"]) if options["secret_file"] else self._ask("Secret key: ")
            backup_keys.key_confirm(key=key, secret=secret, actor=ACTOR)
            self.console.print(f"{key.label} opens backups from now on ({key.fingerprint}).")
            return
        backup_keys.key_retire(key=key, actor=ACTOR)
        self.console.print(f"{key.label} is retired. {backup_keys.kept_after_retiring(key)}")
        self._warn()

    def _key_new(self, label: str, options: dict[str, Any]) -> None:
        key, secret = backup_keys.key_new(label=label, actor=ACTOR)
        self.stderr.write(
            "This key opens every backup that is made from now on. It is shown once and kept nowhere here: write it down, away from this machine."
        )
        if options["as_json"]:
            self._json({**report.key_dict(key), "secret": secret})
        else:
            # Standard out carries the key alone, for whoever pipes it into a safe.
            self.stdout.write(secret)
        if options["unconfirmed"] or not sys.stdin.isatty():
            self.stderr.write(f"It counts when it was typed back: manage.py backup key confirm {key.fingerprint}")
            return
        for _ in range(3):
            try:
                backup_keys.key_confirm(key=key, secret=self._ask("Type it back: "), actor=ACTOR)
            except ValidationError as error:
                self.stderr.write(" ".join(error.messages))
            else:
                self.stderr.write(f"It opened a test file: {key.label} ({key.fingerprint}) counts from now on.")
                return
        raise CommandError(
            f"It is not confirmed. Try again: manage.py backup key confirm {key.fingerprint}", returncode=2
        )

    def _find_key(self, word: str) -> BackupKey:
        rows = [
            key for key in BackupKey.objects.all() if word and (key.label == word or key.fingerprint.startswith(word))
        ]
        if len(rows) != 1:
            raise ValueError(f"{len(rows)} keys are called {word!r}: give the fingerprint (backup key list).")
        return rows[0]

    # Destinations

    def _destination(self, name: str) -> BackupDestination:
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
                self._json([report.destination_dict(row) for row in rows])
            else:
                report.print_destinations(self.console, rows)
            return
        if action in ("add", "set"):
            row = self._destination_save(None if action == "add" else self._destination(name), options)
        else:
            row = self._destination(name)
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
            secret = _read(options["secret_file"]) if options["secret_file"] else self._ask("Secret key: ")
            credentials = {"access_key": options["access_key"], "secret_key": secret}
        rules = {
            key: options[key] if options[key] is not None else getattr(row or BackupDestination(), key)
            for key in _RULES
        }
        return backup_destinations.destination_save(
            actor=ACTOR, destination=row, name=options["name"], kind=kind, options={**kept, **given},
            credentials=credentials, enabled=row.enabled if row is not None else True, **rules,
        )  # fmt: skip

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
            self._json(report.plan_dict(row))
        else:
            report.print_plan(self.console, row)

    # Small things

    def _backup(self, word: str) -> Backup:
        if not word:
            row = backups.newest() or Backup.objects.exclude(state=BackupState.RUNNING).first()
            if row is None:
                raise ValueError("There is no backup yet. Make one: manage.py backup create")
            return row
        return report.find(word)

    def _warn(self) -> None:
        if sentence := backup_keys.warning():
            self.stderr.write(sentence)

    def _json(self, document: Any) -> None:
        self.stdout.write(json.dumps(document, ensure_ascii=False, indent=2, default=str))

    def _ask(self, prompt: str) -> str:
        return getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline().strip()

    def _agreed(self, question: str) -> bool:
        if not sys.stdin.isatty():
            return False
        self.stderr.write(f"{question} [y/N] ", ending="")
        self.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def _progress(self) -> Callable[[int, int, str], None]:
        """A line that moves, where there is a terminal."""
        if not sys.stderr.isatty():
            return lambda done, total, text: None

        def say(done: int, total: int, text: str) -> None:
            share = f"{done / total:4.0%}" if total else f"{done:,}"
            self.stderr.write(f"\r\x1b[K{share} {text}"[:120], ending="\r" if total and done >= total else "")

        return say


def _split(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]


def _read(path: str) -> str:
    """A secret from a file; lines that begin with # are comments, as age-keygen writes them."""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    return "\n".join(line for line in text.splitlines() if line.strip() and not line.startswith("#")).strip()
