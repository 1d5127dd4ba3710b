"""Writes and loads backups of a filled installation, and times it: everything of ``backup`` that needs Django."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from bench.inside.setup import start
from bench.measure import cpu_seconds, peak_rss_mb


def main(step: str, path: str, target: str = "") -> dict[str, Any]:
    """``write``: a backup of this installation to ``path``; ``load``: the rows of ``path`` into the empty database ``target``."""
    return {"write": write, "load": load}[step](Path(path), target)


def write(path: Path, target: str) -> dict[str, Any]:
    from ops.backup import age
    from ops.backup.write import write_backup

    recipients = age.recipients_of([age.machine_identity()])
    began, cpu = time.perf_counter(), cpu_seconds(os.getpid())
    with path.open("wb") as file:
        manifest = write_backup(
            target=file,
            made_by={"id": "bench", "installation": "bench", "version": "0"},
            recipients=recipients,
            include=(),
        )
        file.flush()
        os.fsync(file.fileno())
    return {**_spent(began, cpu), "rows": manifest.rows, "mb": manifest.file_size / 1e6}


def load(path: Path, target: str) -> dict[str, Any]:
    from ops.backup.load import load_into
    from ops.backup.read import open_backup
    from ops.backup.scratch import database_at, migrate

    with database_at(target) as alias:
        migrate(alias)
        began, cpu = time.perf_counter(), cpu_seconds(os.getpid())
        with open_backup(path) as reader:
            report = load_into(alias, reader)
    return {**_spent(began, cpu), "rows": report.total}


def _spent(began: float, cpu: float) -> dict[str, float]:
    return {
        "seconds": time.perf_counter() - began,
        "cpu": cpu_seconds(os.getpid()) - cpu,
        "peak_mb": peak_rss_mb(),
    }


if __name__ == "__main__":
    start(main)
