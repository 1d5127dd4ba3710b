"""Causes known failures for real, so that anyone can watch them being found and mended."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.text import Text

from ops.doctor import catalogue
from ops.doctor.faults import Fault, FaultRefused, all_faults, get_fault, refuse_outside_demo
from ops.services import audit
from ops.terminal import console_of


class Command(BaseCommand):
    help = "Break something on purpose: --break ID, and bring it back: --heal ID. In embedded mode or with DEBUG only."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group()
        which.add_argument(
            "--break", dest="broken", metavar="ID", help="Cause the failure of this check or known failure."
        )
        which.add_argument("--heal", metavar="ID", help="Bring back what --break changed.")
        which.add_argument("--list", action="store_true", help="List what can be broken (the default).")

    def handle(self, *args: Any, broken: str | None, heal: str | None, **options: Any) -> None:
        if broken:
            self._break(broken)
        elif heal:
            self._heal(heal)
        else:
            console = console_of(self.stdout, plain_width=120)
            for fault in all_faults():
                console.print(Text(f"{fault.check_id:32} {fault.title}"))

    def _break(self, wanted: str) -> None:
        fault = self._fault(wanted)
        memories = _read()
        if fault.check_id in memories:
            raise CommandError(
                f"{fault.check_id} is broken already. Heal it first: manage.py demo --heal {fault.check_id}"
            )
        try:
            refuse_outside_demo()
            memory = fault.cause()
        except FaultRefused as error:
            raise CommandError(str(error)) from None
        _write({**memories, fault.check_id: memory})
        audit.record(actor="command", action="demo.broken", target=f"check:{fault.check_id}", message=fault.title)
        self.stdout.write(f"Done: {fault.title}")
        self.stdout.write(f"See it: manage.py doctor {fault.check_id}")

    def _heal(self, wanted: str) -> None:
        fault = self._fault(wanted)
        memories = _read()
        if fault.check_id not in memories:
            raise CommandError(f"{fault.check_id} was not broken by this command.")
        fault.heal(memories.pop(fault.check_id))
        _write(memories)
        audit.record(actor="command", action="demo.healed", target=f"check:{fault.check_id}", message=fault.title)
        self.stdout.write(f"Healed: {fault.title}")

    def _fault(self, wanted: str) -> Fault:
        try:
            ids = catalogue.resolve(wanted)
        except ValueError as error:
            raise CommandError(str(error)) from None
        fault = next((found for found in map(get_fault, ids) if found is not None), None)
        if fault is None:
            raise CommandError(f"There is no way to break {wanted}. What can be broken: manage.py demo --list")
        return fault


def _file() -> Any:
    return settings.DATA_DIR / "demo-faults.json"


def _read() -> dict[str, Any]:
    """What was broken and not healed yet; kept in a file, since the database may be what is broken."""
    found: dict[str, Any] = json.loads(_file().read_text()) if _file().exists() else {}
    return found


def _write(memories: dict[str, Any]) -> None:
    _file().write_text(json.dumps(memories))
    _file().chmod(0o600)
