"""What can be wrong with a backup. Each text is a sentence for an operator: what is wrong, and what to do."""

from __future__ import annotations


class BackupError(Exception):
    """Anything that keeps a backup from being made, read or restored."""


class NotABackup(BackupError):
    """The file is something else."""


class WrongKey(BackupError):
    """None of the keys at hand opens it. The text names the keys (by fingerprint) that would."""


class NewerVersion(BackupError):
    """It was made by a version that this one cannot read."""


class BackupDamaged(BackupError):
    """A part is not what its checksum says, or the file ends too early. The text names the part."""


class NoRoom(BackupError):
    """The disk is too full for it."""


class DestinationFailed(BackupError):
    """A destination did not take or give a copy."""


class BackupStopped(BackupError):
    """Whoever asked for it wanted it to stop."""
