"""``manage.py migrate``: Django's, one at a time, with a backup before it changes anything that holds data."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import migrate as of_django
from django.db import DEFAULT_DB_ALIAS

from ops.backup.errors import BackupError
from ops.migrating import WholeExecutor, alone
from ops.services.upgrades import backup_before_upgrade, finish_upgrade

# The command of Django takes no executor; ours stands in its place.
of_django.MigrationExecutor = WholeExecutor  # type: ignore[attr-defined]


class Command(of_django.Command):
    """Only the whole way forward is an upgrade; single apps and the way back are for whoever knows what they do."""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--no-backup",
            action="store_true",
            help="Do not back the database up first (as with BACKUP_BEFORE_UPGRADE=false).",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["database"] != DEFAULT_DB_ALIAS or options["plan"] or options["check_unapplied"]:
            super().handle(*args, **options)
            return
        with alone(lambda: self._say(options, "Another process migrates this database: waiting until it has ended.")):
            self._migrate(*args, **options)

    def _migrate(self, *args: Any, **options: Any) -> None:
        whole = not options["app_label"] and not any(options.get(name) for name in ("fake", "prune"))
        if whole and not options["no_backup"]:
            try:
                kept = backup_before_upgrade()
            except BackupError as error:
                raise CommandError(
                    f"Nothing was migrated: no backup could be made first. {error} To go on without one: manage.py migrate --no-backup"
                ) from error
            if kept is not None:
                self._say(options, f"Backup before the upgrade: {kept.name}")
        super().handle(*args, **options)
        if whole:
            finish_upgrade()

    def _say(self, options: dict[str, Any], text: str) -> None:
        if options["verbosity"]:
            self.stdout.write(text)
            self.stdout.flush()
