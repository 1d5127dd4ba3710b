"""``manage.py api_schema``: write the API's description to docs/openapi.json, or say that the file is out of date."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

FILE = settings.BASE_DIR / "docs" / "openapi.json"


def rendered() -> str:
    """The description as the file holds it."""
    from controlplane.api import api

    return json.dumps(api.get_openapi_schema(), indent=1, ensure_ascii=False, default=str) + "\n"


class Command(BaseCommand):
    """Exit codes: 0 written or up to date, 1 out of date."""

    help = "Write docs/openapi.json. --check only compares."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--check", action="store_true", help="Write nothing; fail when the file is out of date.")

    def handle(self, *args: Any, **options: Any) -> None:
        text = rendered()
        same = FILE.exists() and FILE.read_text(encoding="utf-8") == text
        if options["check"]:
            if not same:
                raise CommandError("docs/openapi.json is out of date. Run: python manage.py api_schema")
        elif not same:
            FILE.write_text(text, encoding="utf-8")
        self.stdout.write("docs/openapi.json is up to date." if same else "docs/openapi.json written.")
