"""Restores a backup: says what would change, asks, and does it; or brings it to life on a machine on which nothing is yet."""

from __future__ import annotations

import json
import os
import sys
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ops.backup.errors import BackupError
from ops.backup.scopes import kinds as all_kinds
from ops.locks import LockHeld
from ops.models.backup import Backup
from ops.models.restore import Restore, RestoreState
from ops.services import restore_fresh, restores
from ops.terminal import console_of

ACTOR = "command"
WORD = "restore"


class Command(BaseCommand):
    help = (
        "Restore a backup. On an empty machine: restore FILE --key-file FILE. Exit codes: 0 done, 2 refused or not agreed, 3 wrong words, "
        "4 tried and failed (nothing is changed then). How to: docs/restore.md."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("what", nargs="?", default="", metavar="FILE|NAME", help="A file, or a backup's name.")
        parser.add_argument(
            "--key", default="", help="The age secret key that opens it. Others may see it: rather --key-file."
        )
        parser.add_argument("--key-file", default="", help="A file with the key; - for standard input.")
        parser.add_argument("--dry-run", action="store_true", help="Only say what would change.")
        names = ", ".join(kind.name for kind in all_kinds())
        parser.add_argument("--only", default="", metavar="KINDS", help=f"Parts, separated by commas: {names}.")
        parser.add_argument(
            "--without-words-since",
            action="store_true",
            help="Remove what was said since the backup was made; it stays as history otherwise.",
        )
        parser.add_argument("--into", default="", metavar="URL", help="Load it into this empty database instead.")
        parser.add_argument("--yes", action="store_true", help="Do not ask.")
        parser.add_argument(
            "--undo", action="store_true", help="Take a restore back: the last one, or the one with this id."
        )
        parser.add_argument(
            "--go-on", action="store_true", help="Finish a restore whose process ended after its rows were in."
        )
        parser.add_argument("--list", action="store_true", dest="listing", help="The restores so far.")
        parser.add_argument("--json", action="store_true", dest="as_json", help="One JSON document on standard out.")

    def handle(self, *args: Any, **options: Any) -> None:
        self.as_json: bool = options["as_json"]
        self.console = console_of(self.stderr if self.as_json else self.stdout, plain_width=110)
        self._last = ""
        try:
            if options["listing"]:
                self._list()
            elif options["undo"]:
                self._undo(options)
            elif options["go_on"]:
                self._go_on(options)
            elif not options["what"]:
                raise CommandError("Say which backup: a file, or a name of manage.py backup list.", returncode=3)
            elif options["into"]:
                self._into(options)
            else:
                self._restore(options)
        except (BackupError, LockHeld) as error:
            raise CommandError(str(error), returncode=2) from None

    def _restore(self, options: dict[str, Any]) -> None:
        identities, kinds = self._identities(options), self._kinds(options["only"])
        if restore_fresh.is_fresh():
            self._fresh(options, identities, kinds)
            return
        self._refuse_other_tables()
        backup, path = self._source(options["what"])
        restore = restores.restore_plan(
            backup=backup,
            path=path,
            identities=identities,
            kinds=kinds,
            words_since=not options["without_words_since"],
            actor=ACTOR,
            progress=self._progress,
        )
        self._show(restore)
        if options["dry_run"]:
            restores.restore_discard(restore=restore, actor=ACTOR)
            self._say(restore)
            return
        if not self._agreed(options):
            restores.restore_discard(restore=restore, actor=ACTOR)
            sys.exit(2)
        self._apply(restore, identities)

    def _refuse_other_tables(self) -> None:
        """A database that is not up to date can be compared with nothing."""
        restore_fresh.prepare()

    def _apply(self, restore: Restore, identities: list[str] | None) -> None:
        try:
            restores.restore_apply(restore=restore, actor=ACTOR, identities=identities, progress=self._progress)
        except BackupError as error:
            restore.refresh_from_db()
            raise CommandError(str(error), returncode=4 if restore.state == RestoreState.FAILED else 2) from None
        self._say(restore)

    def _fresh(self, options: dict[str, Any], identities: list[str] | None, kinds: list[str]) -> None:
        _, path = self._source(options["what"])
        assert path is not None
        if kinds:
            raise CommandError(
                "There is nothing here yet: on an empty machine a backup is restored as a whole.", returncode=3
            )
        if options["dry_run"]:
            from ops.backup.files import look_through

            looked = look_through(path, identities, self._progress)
            self.console.print(Text(f"Nothing is here yet. {looked.manifest.rows:,} rows would be loaded."))
            if self.as_json:
                self.stdout.write(
                    json.dumps({"fresh": True, "rows": looked.manifest.rows, "tables": looked.manifest.tables})
                )
            return
        self._say(restore_fresh.restore_fresh(path=path, identities=identities, actor=ACTOR, progress=self._progress))

    def _into(self, options: dict[str, Any]) -> None:
        if options["only"] or options["dry_run"]:
            raise CommandError(
                "--into loads all rows into an empty database: without --only and --dry-run.", returncode=3
            )
        backup, path = self._source(options["what"])
        if path is None:
            from ops.services.backups import backup_fetch

            assert backup is not None
            path = backup_fetch(backup)
        loaded = restore_fresh.restore_elsewhere(
            path=path, url=options["into"], identities=self._identities(options), progress=self._progress
        )
        findings = [finding.to_dict() for finding in loaded.findings]
        if self.as_json:
            self.stdout.write(json.dumps({"rows": loaded.report.rows, "findings": findings}, indent=1))
            return
        self.console.print(Text(f"{loaded.report.total:,} rows are in it, in {loaded.report.seconds:.1f} seconds."))
        self._findings(findings)
        self.console.print(Text("Set DATABASE_URL to it and start again. Files and keys stay where they are."))

    def _undo(self, options: dict[str, Any]) -> None:
        done = Restore.objects.filter(state__in=(RestoreState.DONE, RestoreState.RECONCILING), undoes=None)
        if options["what"]:
            with suppress(ValueError):
                done = done.filter(pk=uuid.UUID(options["what"]))
        restore = done.order_by("-applied_at").first()
        if restore is None:
            raise CommandError("There is no restore to take back. manage.py restore --list shows them.", returncode=2)
        self.console.print(
            Text(f"Taking back the restore of {restore.source} of {restore.applied_at:%Y-%m-%d %H:%M} UTC.")
        )
        if not self._agreed(options):
            sys.exit(2)
        self._say(restores.restore_undo(restore=restore, actor=ACTOR, progress=self._progress))

    def _go_on(self, options: dict[str, Any]) -> None:
        restore = Restore.objects.filter(state=RestoreState.RECONCILING).order_by("-applied_at").first()
        if restore is None:
            raise CommandError("No restore waits for anything.", returncode=2)
        self._apply(restore, self._identities(options))

    def _list(self) -> None:
        rows = list(Restore.objects.select_related("safety").order_by("-created_at")[:50])
        if self.as_json:
            self.stdout.write(json.dumps([restore_fresh.as_json(row) for row in rows], indent=1))
            return
        table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
        for title in ("When (UTC)", "State", "From", "Id"):
            table.add_column(title)
        for row in rows:
            table.add_row(f"{row.created_at:%Y-%m-%d %H:%M}", row.get_state_display(), row.source, str(row.pk))
        self.console.print(table)

    def _source(self, what: str) -> tuple[Backup | None, Path | None]:
        path = Path(what).expanduser()
        if path.is_file():
            return None, path.resolve()
        with suppress(DatabaseError, ValueError):
            named = Backup.objects.filter(name__startswith=what.removesuffix(".sbk"))
            if found := list(named[:2]):
                if len(found) > 1:
                    raise CommandError(f"Several backups begin with {what!r}: {found[0]}, {found[1]}…", returncode=3)
                return found[0], None
        raise CommandError(f"There is no file and no backup {what!r}. manage.py backup list shows them.", returncode=3)

    def _identities(self, options: dict[str, Any]) -> list[str] | None:
        text = options["key"] or os.environ.get("SWITCHBOARD_RECOVERY_KEY", "")
        if options["key_file"] == "-":
            text = sys.stdin.read()
        elif options["key_file"]:
            try:
                text = Path(options["key_file"]).expanduser().read_text()
            except OSError as error:
                raise CommandError(f"The key cannot be read: {error}", returncode=3) from None
        keys = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        if text and not keys:
            raise CommandError("There is no key in it.", returncode=3)
        return keys or None

    def _kinds(self, text: str) -> list[str]:
        wanted = [word.strip() for word in text.split(",") if word.strip()]
        known = [kind.name for kind in all_kinds()]
        if unknown := [word for word in wanted if word not in known]:
            raise CommandError(f"There is no part {unknown[0]!r}; choose among {', '.join(known)}.", returncode=3)
        return wanted

    def _agreed(self, options: dict[str, Any]) -> bool:
        if options["yes"]:
            return True
        if not sys.stdin.isatty():
            self.stderr.write("Nothing was done: a restore asks first. Add --yes to agree beforehand.")
            return False
        self.stderr.write(f"A backup of what is here is made first. Type {WORD!r} to go on: ", ending="")
        self.stderr.flush()
        return sys.stdin.readline().strip() == WORD

    def _progress(self, done: int, total: int, text: str) -> None:
        if text and text != self._last and sys.stderr.isatty():
            self._last = text
            self.stderr.write(f"  {text}…")

    def _show(self, restore: Restore) -> None:
        self.console.print(Text(f"{restore.source}: as of {restore.made_at:%Y-%m-%d %H:%M} UTC."))
        changed = [
            one for one in restore.plan["models"] if one["added"] or one["changed"] or one["removed"] or one["kept"]
        ]
        if not changed:
            self.console.print(Text("Nothing differs."))
        else:
            self.console.print(_table(changed))
            _examples(self.console, changed)
        self._findings(restore.findings)

    def _findings(self, findings: list[dict[str, Any]]) -> None:
        for finding in findings:
            self.console.print(Text(f"  {finding['severity']}: {finding['sentence']}"))

    def _say(self, restore: Restore) -> None:
        if self.as_json:
            self.stdout.write(json.dumps(restore_fresh.as_json(restore), indent=1))
            return
        self.console.print(Text(f"{restore.get_state_display()}. {restore.error}".strip()))
        for said in restore.report.values():
            self.console.print(Text(f"  {said.get('label', '')}: {said.get('error') or said.get('sentence', '')}"))
        if restore.state == RestoreState.DONE:
            self._findings(restore.findings)
        if restore.safety is not None and restore.undoes_id is None:
            self.console.print(Text(f"Take it back: manage.py restore --undo {restore.pk}"))


def _table(models: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("What")
    for title in ("Added", "Changed", "Removed", "Kept", "Same"):
        table.add_column(title, justify="right")
    for one in models:
        numbers = (one[what] for what in ("added", "changed", "removed", "kept", "same"))
        table.add_row(one["label"], *(f"{number:,}" if number else "·" for number in numbers))
    return table


def _examples(console: Console, models: list[dict[str, Any]]) -> None:
    for one in models:
        for example in one["examples"][:3]:
            if example["what"] != "changed":
                console.print(Text(f"  {example['what']}: {one['label'].lower()}: {example['label']}"))
                continue
            before, after = example["before"] or {}, example["after"] or {}
            fields = ", ".join(f"{name} {before[name]!r} → {after.get(name)!r}" for name in list(before)[:3])
            console.print(Text(f"  changed: {one['label'].lower()}: {example['label']}: {fields}"))
