"""What the commands about people and invitations share: actions as methods, answers as JSON, refusals with exit code 3."""

from __future__ import annotations

import json
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

ACTOR = "command"


class DeskCommand(BaseCommand):
    """Runs the method that is named as the ``action`` (``sign-out``: ``_sign_out``) with the options."""

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, "_" + options["action"].replace("-", "_"))(options)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages), returncode=3) from error

    def _json(self, value: Any) -> None:
        self.stdout.write(json.dumps(value, default=str, indent=2, ensure_ascii=False))
