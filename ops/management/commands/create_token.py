"""Makes a bearer token for a person."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from ops.models import TokenScope
from ops.services.tokens import token_create


class Command(BaseCommand):
    help = "Make a bearer token for the REST API. The token is printed once, on standard out, and stored nowhere."
    # Settings only: those of the code need every page and a second; `check`, `migrate` and every start have them.
    requires_system_checks: list[str] = ["switchboard"]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--name", default="command line", help="What the token is for.")
        parser.add_argument("--scope", choices=TokenScope.values, default=TokenScope.READ.value)
        parser.add_argument("--days", type=float, default=None, help="Days until it expires. Never when not given.")

    def handle(self, *args: Any, username: str, name: str, scope: str, days: float | None, **options: Any) -> None:
        people = get_user_model()
        try:
            owner = people._default_manager.get_by_natural_key(username)
        except people.DoesNotExist:
            raise CommandError(f"There is nobody with the username {username!r}.") from None
        expires_at = timezone.now() + timedelta(days=days) if days is not None else None
        try:
            _, plaintext = token_create(owner=owner, name=name, scope=scope, expires_at=expires_at, actor="command")
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        self.stderr.write("Keep it now: it is not shown again.")
        self.stdout.write(plaintext)
