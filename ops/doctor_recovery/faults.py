"""A reset that was cut short, and a database that a newer version has migrated."""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from ops.doctor.faults import register_fault
from ops.services.resets import open_reset, reset_cut_short, reset_finish

ACTOR = "demo"
_NEWER = ("ops", "9999_of_a_newer_version")


def cut_a_reset_short() -> dict[str, Any]:
    """Mappings are removed after a backup, and whoever did it is gone before they were found again."""
    note = reset_cut_short(scopes=("mappings",), actor=ACTOR)
    return {"backup": note["backup"]}


def finish_it(memory: dict[str, Any]) -> None:
    """Find them again, unless somebody has."""
    if open_reset() is not None:
        reset_finish(actor=ACTOR)


register_fault(
    "recovery.reset",
    title="A reset is cut short after its removal",
    cause=cut_a_reset_short,
    heal=finish_it,
    needs=("homeserver", "backend"),
    repair="recovery.reset",
    evidence=("scopes", "backup", "at"),
)


def migrate_by_a_newer_version() -> dict[str, Any]:
    """The database remembers a migration that this program does not have, as after going back to an older image."""
    MigrationRecorder(connection).record_applied(*_NEWER)
    return {"migration": list(_NEWER)}


def forget_the_newer_version(memory: dict[str, Any]) -> None:
    """As after the newer version's program has reversed it."""
    MigrationRecorder(connection).record_unapplied(*_NEWER)


register_fault(
    "recovery.rollback",
    title="The database was migrated by a newer version",
    cause=migrate_by_a_newer_version,
    heal=forget_the_newer_version,
    evidence=("unknown", "version"),
)
