"""``manage.py signing_keys``: the keys that sign access tokens, and their rotation."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from rich.table import Table

from chat.services.signing_keys import signing_key_rotate, signing_keys
from ops.terminal import console_of


class Command(BaseCommand):
    help = "List the keys that sign programs' access tokens, or rotate them."
    # Settings only: those of the code need every page and a second; `check`, `migrate` and every start have them.
    requires_system_checks: list[str] = ["switchboard"]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--rotate", action="store_true", help="Sign with a new key. Nobody is signed out.")
        parser.add_argument(
            "--at-once",
            action="store_true",
            help="With --rotate: older keys end now, because somebody may know them. Programs refresh their tokens.",
        )

    def handle(self, *args: Any, rotate: bool, at_once: bool, **options: Any) -> None:
        if at_once and not rotate:
            raise CommandError("--at-once belongs to --rotate.", returncode=3)
        if rotate:
            key = signing_key_rotate(actor="command", at_once=at_once)
            self.stdout.write(f"{key.kid} signs from now on.")
        table = Table("Key", "Made (UTC)", "Counts", box=None, pad_edge=False)
        keys = list(signing_keys())
        for number, key in enumerate(keys):
            until = "until it is rotated" if key.retired_at is None else f"until {key.retired_at:%Y-%m-%d %H:%M:%S}"
            table.add_row(key.kid, f"{key.created_at:%Y-%m-%d %H:%M:%S}", f"signs, {until}" if number == 0 else until)
        if not keys:
            self.stdout.write(
                f"There is none yet ({timezone.now():%H:%M} UTC): the first program that signs in has one made."
            )
            return
        console_of(self.stdout).print(table)
