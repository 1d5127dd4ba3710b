"""``manage.py provision``: make the services that the environment describes exist."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from controlplane.provision import provision


class Command(BaseCommand):
    """Exit codes: 0 done (also when there was nothing to do), 1 a value could not be used."""

    help = "Make the services that the environment describes exist. Workers and `up` do it when they start."
    # Settings only: those of the code need every page and a second; `check`, `migrate` and every start have them.
    requires_system_checks: list[str] = ["switchboard"]

    def handle(self, *args: Any, **options: Any) -> None:
        result = provision()
        for name in result.changed:
            self.stdout.write(f"● {name}: written")
        for name in result.services:
            if name not in result.changed:
                self.stdout.write(f"○ {name}: unchanged")
        for note in result.notes:
            self.stdout.write(f"▲ {note}")
        if result.problems:
            raise CommandError("\n".join(result.problems))
        if not result.services and not result.changed:
            self.stdout.write("○ The environment describes no service.")
