"""``manage.py config_reference``: every setting, as Markdown."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from controlplane.config_reference import reference


class Command(BaseCommand):
    """Prints the page, or with --write puts it into docs/configuration.md."""

    help = "Every setting with its default and meaning, as Markdown."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--write", action="store_true", help="Write docs/configuration.md instead of printing.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["write"]:
            self.stdout.write(reference(), ending="")
            return
        path = Path(settings.BASE_DIR) / "docs" / "configuration.md"
        path.write_text(reference(), encoding="utf-8")
        self.stdout.write(f"● Written: {path.relative_to(settings.BASE_DIR)}")
