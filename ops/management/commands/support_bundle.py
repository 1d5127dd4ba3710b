"""Makes a support bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from ops.choices import Lamp
from ops.services.support import bundle_make
from ops.support import folder
from ops.support.bundle import BundleWish, make, parse_messages
from ops.terminal import console_of, lamp_text
from ops.words import counted


class Command(BaseCommand):
    help = "Make one file with what somebody else needs to understand a trouble. No password, token or key is in it."
    # It has to run when something is wrong.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--output", default="", help="Where to write it; the data directory's folder when not given."
        )
        parser.add_argument("--message", action="append", default=[], help="Add the trace of this message; repeatable.")
        parser.add_argument("--texts", action="store_true", help="With what was said in these messages.")
        parser.add_argument("--note", default="", help="What is wrong, in your words.")
        parser.add_argument("--preview", action="store_true", help="Only say what would be in it; write nothing.")
        parser.add_argument("--json", action="store_true", help="The answer as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            wish = BundleWish(parse_messages(options["message"]), options["texts"], note=options["note"])
        except ValueError as error:
            raise CommandError(str(error)) from None
        console = console_of(self.stdout)
        if options["preview"]:
            bundle = make(wish)
            for name, text in bundle.files.items():
                console.print(f"{len(text.encode()):>10,}  {name}  {bundle.what[name]}", soft_wrap=True)
            return
        try:
            made = bundle_make(wish=wish, actor="command")
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        where = folder.folder() / made.name
        if options["output"]:
            target = Path(options["output"])
            target = target / made.name if target.is_dir() else target
            try:
                where = where.replace(target)
            except OSError:
                # Another disk: copied, and the first one taken away.
                try:
                    target.write_bytes(where.read_bytes())
                    target.chmod(0o600)
                except OSError as error:
                    raise CommandError(f"{target} cannot be written: {error.strerror}. It is at {where}.") from None
                where.unlink()
                where = target
        if options["json"]:
            answer = {"path": str(where), "size": made.size, "files": made.parts, "failed": made.failed}
            self.stdout.write(json.dumps(answer))
            return
        lamp = Lamp.ATTENTION if made.failed else Lamp.GOOD
        console.print(lamp_text(lamp, f"{counted(len(made.parts), 'file')}, {made.size / 1024:.0f} KB"))
        for name in made.failed:
            console.print(f"  {name} could not be made; the reason is in the bundle.")
        console.print(str(where), soft_wrap=True)
        console.print(
            "Look through it before you hand it on: names and ids are readable, secrets are not.", soft_wrap=True
        )
