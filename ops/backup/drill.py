"""Runs a drill in processes of its own (``ops.backup.drill_inside``), in a scratch data directory that is removed afterwards.

The scratch folder lies below ``DATA_DIR/drill``; what a killed drill left there is removed by the next one. A database with all tables and no
rows is kept there too, since making one takes longer than many a drill.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.migrations.loader import MigrationLoader

from ops.backup.errors import BackupError, NoRoom
from ops.backup.placing import private_folder
from ops.disk_guard import may
from ops.redaction import redact_text

PHASES = ("read", "restore")
LONGEST_SECONDS = 12 * 3600.0
# What a process needs of this one's environment; everything else is what an empty machine has not.
_KEPT = (
    "PATH",
    "HOME",
    "LANG",
    "LANGUAGE",
    "TZ",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
    "TMPDIR",
    "SYSTEMROOT",
)
_LAST_LINES = 15

Progress = Callable[[int, int, str], None]


class DrillStopped(BackupError):
    """Somebody asked for it to end."""


@dataclass(slots=True)
class DrillResult:
    """How a drill ended. ``died``: its process ended without a word, which says nothing about the backup."""

    ok: bool = False
    rows: int = 0
    steps: list[dict[str, Any]] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""
    died: bool = False


def folder() -> Path:
    """``DATA_DIR/drill``."""
    return private_folder(Path(settings.DATA_DIR) / "drill")


def sweep() -> int:
    """Remove what killed drills left. Only for who holds the lock for drills. Returns how many folders went."""
    present, gone = _template().name, 0
    for path in folder().iterdir():
        if path.name == present:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
            gone += 1
        else:
            path.unlink(missing_ok=True)
    return gone


def check_room(path: Path, database_bytes: int, *, asked_for: str = "") -> None:
    """Raises ``NoRoom`` when a restored database would not fit. ``asked_for``: as for ``spool.check_room``."""
    # Compressed rows are a fifth to a tenth of a database with its indexes.
    needs = max(database_bytes, path.stat().st_size * 4)
    if sentence := may("drill", needs=needs, folder=folder(), asked_for=asked_for):
        raise NoRoom(sentence)


def run_drill(
    path: Path,
    *,
    identities: Sequence[str],
    progress: Progress = lambda done, total, text: None,
    should_stop: Callable[[], bool] = lambda: False,
    on_step: Callable[[dict[str, Any]], None] = lambda step: None,
) -> DrillResult:
    """Restore the backup at ``path`` into an empty data directory, try it, and throw it away. Raises ``DrillStopped`` and ``OSError``."""
    result = DrillResult()
    scratch = private_folder(folder() / uuid.uuid4().hex)
    try:
        for phase in PHASES:
            _run_phase(phase, path, identities, scratch, result, progress, should_stop, on_step)
            if not result.ok:
                break
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return result


def _environment(scratch: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("LC_")}
    return {
        **kept,
        "DATA_DIR": str(scratch),
        "SWITCHBOARD_ENV_FILE": str(scratch / "no-env-file"),
        "DJANGO_SETTINGS_MODULE": os.environ.get("DJANGO_SETTINGS_MODULE", "controlplane.settings"),
        "LOG_LEVEL": "warning",
        "PYTHONUNBUFFERED": "1",
    }


def _template() -> Path:
    """An empty database of the present schema: its name tells which one that is."""
    migrations = sorted(MigrationLoader(None, ignore_no_migrations=True).disk_migrations)
    made_from = hashlib.sha256(f"{settings.VERSION} {sys.version_info[:2]} {migrations}".encode())
    return folder() / f"empty-{made_from.hexdigest()[:16]}.sqlite3"


def _run_phase(
    phase: str,
    path: Path,
    identities: Sequence[str],
    scratch: Path,
    result: DrillResult,
    progress: Progress,
    should_stop: Callable[[], bool],
    on_step: Callable[[dict[str, Any]], None],
) -> None:
    asked = {
        "path": str(path.resolve()),
        "identities": list(identities),
        "template": str(_template()),
        "scratch": str(scratch),
    }
    result.ok, ended = False, False
    # Its standard input stays open for as long as we live: when it closes, the process ends by itself.
    process = subprocess.Popen(
        [sys.executable, str(Path(settings.BASE_DIR) / "manage.py"), "backup_drill_inside", phase],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(scratch),
        cwd=settings.BASE_DIR,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    last_words: deque[str] = deque(maxlen=_LAST_LINES)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    listener = threading.Thread(target=last_words.extend, args=(process.stderr,), daemon=True)
    listener.start()
    watch = _Watch(process, should_stop)
    watch.start()
    try:
        try:
            # Not through its environment or command line, which others may see.
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended already, and says why
        for line in process.stdout:
            said = _parse(line)
            if "progress" in said:
                progress(*said["progress"])
            elif "step" in said:
                result.steps.append(said["step"])
                on_step(said["step"])
            elif "finding" in said:
                result.findings.append(said["finding"])
            elif "end" in said:
                ended, result.ok, result.rows = True, bool(said["end"]["ok"]), int(said["end"]["rows"])
    finally:
        watch.end()
        if process.poll() is None and not ended:
            process.kill()
        process.stdin.close()
        code = process.wait()
        listener.join(timeout=5)
        process.stdout.close()
        process.stderr.close()
    if watch.stopped:
        raise DrillStopped(watch.stopped)
    if not ended:
        result.ok, result.died = False, True
        words = redact_text(" ".join(" ".join(last_words).split()))[-600:]
        result.error = f"The drill's process ended with code {code} before it was done. {words}".strip()
    elif not result.ok:
        failed = next((one for one in result.steps if not one["ok"]), None)
        result.error = failed["sentence"] if failed else "The drill failed."


class _Watch(threading.Thread):
    """Ends the process when somebody asks for it, or when it takes longer than anything could."""

    def __init__(self, process: subprocess.Popen[str], should_stop: Callable[[], bool]) -> None:
        super().__init__(name="drill-watch", daemon=True)
        self._process, self._should_stop = process, should_stop
        self._over = threading.Event()
        self._until = time.monotonic() + LONGEST_SECONDS
        self.stopped = ""
        self.error: BaseException | None = None

    def run(self) -> None:
        from django.db import connections

        try:
            while not self._over.wait(0.5):
                try:
                    asked = self._should_stop()
                except BaseException as error:
                    # The job is somebody else's by now.
                    self.error, asked = error, True
                if asked:
                    self.stopped = "The drill was stopped before it was done."
                elif time.monotonic() > self._until:
                    self.stopped = f"The drill took longer than {LONGEST_SECONDS / 3600:.0f} hours, and was stopped."
                if self.stopped:
                    self._process.kill()
                    return
        finally:
            connections.close_all()

    def end(self) -> None:
        self._over.set()
        self.join(timeout=5)
        if self.error is not None:
            raise self.error


def _parse(line: str) -> dict[str, Any]:
    """A line that it told; anything else that stands in its output is passed over."""
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
