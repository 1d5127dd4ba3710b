"""Re-reads and re-hashes a backup without putting anything anywhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ops.backup.errors import BackupDamaged, BackupError, NewerVersion, NotABackup, WrongKey
from ops.backup.manifest import Manifest
from ops.backup.read import open_backup
from ops.backup.said import called
from ops.findings import Finding

_CODES: dict[type[BackupError], str] = {
    NotABackup: "backup.not_a_backup",
    WrongKey: "backup.wrong_key",
    NewerVersion: "backup.newer_version",
    BackupDamaged: "backup.damaged",
}


@dataclass(slots=True)
class VerifyReport:
    """``ok``: every byte is what was written. ``findings`` say what is not, and what was missing when it was made. ``manifest`` is None and
    ``sha256`` empty when it could not be read to its end."""

    ok: bool = False
    findings: list[Finding] = field(default_factory=list)
    manifest: Manifest | None = None
    sha256: str = ""
    seconds: float = 0.0

    @property
    def sentence(self) -> str:
        """The first thing that is wrong, for people; "" when nothing is."""
        return "" if self.ok else next((one.sentence for one in self.findings if one.severity == "error"), "")


def verify_backup(
    source: Path | BinaryIO,
    *,
    identities: Sequence[str] | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, text: None,
) -> VerifyReport:
    """Read a backup to its end and compare every part with its checksum; ``identities`` None: with the installation's own key.

    ``progress(done, total, text)`` counts bytes. What is wrong with the backup is in the report; raises only what the disk raises.
    """
    started = time.monotonic()
    report = VerifyReport()
    total = source.stat().st_size if isinstance(source, Path) else 0
    try:
        with open_backup(source, identities=identities, any_version=True) as reader:
            done = 0
            for member in reader.members():
                if member.kind == "rows":
                    for _ in member.lines():
                        pass
                done += member.size
                progress(min(done, total), total, f"Reading {called(member.label)}")
        report.manifest = reader.manifest
        report.sha256 = reader.manifest.file_sha256
        report.ok = True
        for name, sentence in reader.manifest.missing.items():
            report.findings.append(Finding("warning", "backup.part_missing", sentence, f"part:{name}"))
        for name in reader.manifest.broken:
            sentence = f"{name} became shorter while the backup was made: it is in it only in part."
            report.findings.append(Finding("warning", "backup.file_changed", sentence, f"file:{name}"))
    except BackupError as exc:
        report.findings.append(Finding("error", _CODES.get(type(exc), "backup.unreadable"), str(exc)))
    report.seconds = time.monotonic() - started
    return report
