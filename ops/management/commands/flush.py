"""Django's ``flush``, which here also has to empty the audit log."""

from __future__ import annotations

from typing import Any

from django.core.management.commands import flush
from django.db import connections

from ops import audit_guard


class Command(flush.Command):
    """Empties every table. Emptying all is the one case in which the audit log's guard steps aside."""

    def handle(self, **options: Any) -> None:
        with audit_guard.lifted(connections[options["database"]]):
            super().handle(**options)
