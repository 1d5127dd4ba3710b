"""How the last start went, in a file: readable when nothing runs, when the database is away, and before there is one."""

from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings

from ops.logs import get_logger
from ops.redaction import redact_text

log = get_logger(__name__)

NAME = "preflight.json"


def _path() -> Path:
    return Path(settings.DATA_DIR) / NAME


def last_start() -> dict[str, Any]:
    """``{ok, role, at, sentence, cause, exit_code, host}`` of the last start on this data directory; empty when none is known."""
    try:
        found = json.loads(_path().read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def good_start(*, role: str) -> None:
    """The process got to its work."""
    _write({"ok": True, "role": role, "sentence": "", "cause": "", "exit_code": 0})


def failed_start(sentence: str, *, role: str, cause: str, code: int) -> None:
    """The process ends, and why."""
    _write({"ok": False, "role": role, "sentence": redact_text(sentence)[:500], "cause": cause, "exit_code": code})


def put_back(found: dict[str, Any]) -> None:
    """Write down again what ``last_start`` gave; empty: nothing is known."""
    if found:
        _store(found)
    else:
        _path().unlink(missing_ok=True)


def _write(facts: dict[str, Any]) -> None:
    _store(
        {
            **facts,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
    )


def _store(facts: dict[str, Any]) -> None:
    path = _path()
    fresh = path.with_name(f".{NAME}.{os.getpid()}")
    try:
        fresh.write_text(json.dumps(facts))
        fresh.chmod(0o600)
        fresh.replace(path)
    except OSError as error:
        # A folder that cannot be written is what may be wrong: the terminal tells.
        log.warning("preflight_not_kept", reason=str(error.strerror))
