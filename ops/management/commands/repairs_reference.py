"""``manage.py repairs_reference``: the known failures and their repairs, as Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from ops.doctor.reference import reference


class Command(BaseCommand):
    help = "The known failures with check, button, command and proof, as Markdown."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--write", action="store_true", help="Write docs/repairs.md instead of printing.")
        parser.add_argument("--check", action="store_true", help="Fail when docs/repairs.md is out of date.")

    def handle(self, *args: Any, write: bool, check: bool, **options: Any) -> None:
        path = Path(settings.BASE_DIR) / "docs" / "repairs.md"
        text = reference()
        if check:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                raise CommandError("docs/repairs.md is out of date. Run: python manage.py repairs_reference --write")
        elif write:
            path.write_text(text, encoding="utf-8")
            self.stdout.write(f"● Written: {path.relative_to(settings.BASE_DIR)}")
        else:
            self.stdout.write(text, ending="")
