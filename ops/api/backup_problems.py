"""What can be wrong with a backup, as problems."""

from __future__ import annotations

from ops.api.problems import Problem, declare, translate
from ops.backup.errors import (
    BackupDamaged,
    BackupError,
    DestinationFailed,
    NewerVersion,
    NoRoom,
    NotABackup,
    WrongKey,
)

REFUSED = declare("backup.refused", 409, "That cannot be done with backups as things stand")
NOT_A_BACKUP = declare("backup.not_a_backup", 422, "The file is no backup")
WRONG_KEY = declare("backup.wrong_key", 422, "None of the keys at hand opens the backup")
NEWER = declare("backup.newer_version", 409, "The backup was made by a newer version")
DAMAGED = declare("backup.damaged", 422, "The backup is damaged")
NO_ROOM = declare("backup.no_room", 507, "There is no room for it")
DESTINATION = declare("backup.destination_failed", 502, "A place did not take or give a copy")
NOT_FRESH = declare("auth.not_fresh", 403, "Show once more who you are")

_CODES = {
    NotABackup: NOT_A_BACKUP,
    WrongKey: WRONG_KEY,
    NewerVersion: NEWER,
    BackupDamaged: DAMAGED,
    NoRoom: NO_ROOM,
    DestinationFailed: DESTINATION,
}


def _problem(error: BackupError) -> Problem:
    for cls in type(error).__mro__:
        if cls in _CODES:
            return Problem(_CODES[cls], str(error))
    return Problem(REFUSED, str(error))


translate(BackupError, _problem)


def refused(error: Exception) -> Problem:
    """A refusal of a service in its own words."""
    return Problem(REFUSED, str(error))
