"""``manage.py migrate``: Django's, with a backup before it changes anything that holds data."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.core.management.commands.migrate import Command as DjangoMigrate
from django.db import DEFAULT_DB_ALIAS

from ops.backup.errors import BackupError
from ops.backup.former import unapplied
from ops.logs import get_logger
from ops.services.releases import Kept, backup_before_upgrade, note_release, register_kept

log = get_logger(__name__)


class Command(DjangoMigrate):
    """Only the whole way forward is an upgrade; single apps and the way back are for whoever knows what they do."""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--no-backup",
            action="store_true",
            help="Do not back the database up first (as with BACKUP_BEFORE_UPGRADE=false).",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        whole = (
            options["database"] == DEFAULT_DB_ALIAS
            and not options["app_label"]
            and not any(options.get(name) for name in ("plan", "check_unapplied", "fake", "prune"))
        )
        kept: Kept | None = None
        if whole and not options["no_backup"]:
            try:
                kept = backup_before_upgrade()
            except BackupError as error:
                raise CommandError(
                    f"Nothing was migrated: no backup could be made first. {error} To go on without one: manage.py migrate --no-backup"
                ) from error
            if kept is not None and options["verbosity"]:
                self.stdout.write(f"Backup before the upgrade: {kept.name}")
        super().handle(*args, **options)
        if kept is not None and not unapplied(DEFAULT_DB_ALIAS):
            note_release(backup=register_kept(kept))
