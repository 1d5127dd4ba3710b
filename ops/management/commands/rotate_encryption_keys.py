"""Re-encrypts every stored secret with the newest key."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from ops.secret_rotation import rotate
from ops.services import audit


class Command(BaseCommand):
    help = "Re-encrypt every secret in the database with the newest key of FIELD_ENCRYPTION_KEYS."
    # Settings only: those of the code need every page and a second; `check`, `migrate` and every start have them.
    requires_system_checks: list[str] = ["switchboard"]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--new", action="store_true", help="Make a new key first and put it in front of the others."
        )
        parser.add_argument("--dry-run", action="store_true", help="Count only; change neither keys nor rows.")

    def handle(self, *args: Any, new: bool, dry_run: bool, **options: Any) -> None:
        if new and dry_run:
            self.stdout.write("Would put a new key in front of the others; then every secret below would be rotated.")
        elif new:
            path = add_key()
            self.stdout.write(f"A new key stands first in {path}.")
            self.stdout.write(
                "Restart every process of Switchboard soon: until then it cannot read what is written with the new key."
            )
        counts = rotate(dry_run=dry_run)
        verb = "to rotate" if dry_run else "rotated"
        for count in counts:
            self.stdout.write(
                f"{count.label}: {count.rotated} {verb}, {count.current} current, {count.empty} empty, {count.unreadable} unreadable"
            )
        if not dry_run:
            after = {count.label: count.rotated for count in counts}
            audit.record(actor="command", action="secrets.rotated", after=after, message="New key." if new else "")
        broken = [f"{count.label}: {', '.join(count.broken[:20])}" for count in counts if count.broken]
        if broken:
            raise CommandError(
                "The key that wrote these rows is missing from FIELD_ENCRYPTION_KEYS; put it back or enter the secrets again: "
                + "; ".join(broken)
            )


def add_key() -> Path:
    """Put a new key in front, in the key file of the data directory and in the running settings. Returns the file.

    Raises ``CommandError`` when the keys come from the environment, which this process cannot change.
    """
    path = Path(settings.DATA_DIR) / "keys" / "field_encryption_keys"
    in_file = (
        [key.strip() for key in path.read_text(encoding="utf-8").split(",") if key.strip()] if path.exists() else []
    )
    if in_file != list(settings.FIELD_ENCRYPTION_KEYS):
        raise CommandError(
            "FIELD_ENCRYPTION_KEYS is set in the environment: put a new key in front of the others there, restart, "
            "and run this command without --new."
        )
    keys = [Fernet.generate_key().decode(), *in_file]
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(",".join(keys))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    settings.FIELD_ENCRYPTION_KEYS = keys
    return path
