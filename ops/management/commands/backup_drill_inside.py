"""The inside of ``manage.py backup drill``, started by it: not for people."""

from __future__ import annotations

import json
import os
import sys
import threading
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    """Reads ``{"path", "identities", "template", "scratch"}`` as one line from standard input, and ends when that is closed."""

    help = "Used by `manage.py backup drill`, which starts it in an empty data directory."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("phase", choices=("read", "restore"))

    def handle(self, *args: Any, **options: Any) -> None:
        from django.conf import settings

        from ops.backup import drill_inside

        if sys.stdin.isatty():
            raise CommandError("This is a part of another command. Use: manage.py backup drill")
        asked = json.loads(sys.stdin.readline() or "{}")
        if Path(asked.get("scratch") or "/nowhere").resolve() != Path(settings.DATA_DIR).resolve():
            raise CommandError("A drill runs in a data directory of its own, and this is another one.")
        # Whoever started it is gone: so are we, whatever we are at.
        threading.Thread(target=_end_with_parent, daemon=True).start()
        drill_inside.cut_off()
        os.nice(10)
        telling = drill_inside.Telling(sys.stdout)
        path, identities = Path(asked["path"]), list(asked["identities"])
        if options["phase"] == "read":
            drill_inside.read(path, identities, telling)
        else:
            template = Path(asked["template"]) if asked.get("template") else None
            drill_inside.restore(path, identities, telling, template=template)
        telling.end()


def _end_with_parent() -> None:
    while sys.stdin.readline():
        pass
    os._exit(3)
