"""Faults of the disk, of log files and of retention: real files and real rows, made for practising."""

from __future__ import annotations

import contextlib
import os
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from ops.doctor.faults import register_fault
from ops.doctor_data import disk, logfiles, usage
from ops.live import live_clear, live_row, live_set
from ops.models import Issue

ACTOR = "demo"
PRACTICE_CHECK = "practice.retention"
_MB = 2**20


def _kept_setting(key: str) -> Any:
    row = live_row(key)
    return row.value if row is not None else None


def _put_back(key: str, value: Any) -> None:
    if value is None:
        live_clear(key=key, actor=ACTOR)
    else:
        live_set(key=key, value=value, actor=ACTOR)


def _logs() -> Path:
    folder = Path(settings.DATA_DIR) / "logs"
    folder.mkdir(exist_ok=True, mode=0o700)
    return folder


def fill_disk() -> dict[str, Any]:
    """Allow the data directory a little more than it uses, and put a rotated log there that is larger than that."""
    before = _kept_setting(disk.BUDGET)
    ours = sum(part.size for part in usage.parts())
    live_set(key=disk.BUDGET, value=ours // _MB + 40, actor=ACTOR)
    path = _logs() / "practice.log.1"
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 80 * _MB)
    return {"path": str(path), "budget": before}


def empty_disk(memory: dict[str, Any]) -> None:
    """Remove the file, allow what was allowed."""
    Path(memory["path"]).unlink(missing_ok=True)
    _put_back(disk.BUDGET, memory["budget"])


register_fault(
    "disk.space",
    title="The data directory uses more than it may",
    cause=fill_disk,
    heal=empty_disk,
    repair="disk.cleanup",
    repair_params=lambda memory: {"items": "rotated_logs"},
    evidence=("free_bytes", "used_by", "days_to_full"),
)


def grow_log() -> dict[str, Any]:
    """A log file larger than the largest allowed."""
    before = _kept_setting(logfiles.LIMIT)
    live_set(
        key=logfiles.LIMIT,
        value=max(20, 1 + max((p.stat().st_size for p in usage.log_files()), default=0) // _MB),
        actor=ACTOR,
    )
    path = _logs() / "practice.log"
    line = f"practice {random.random()} of a log that nobody rotates\n".encode()
    size = (_limit() + 1) * _MB
    with path.open("wb") as file:
        file.write(line * (size // len(line) + 1))
    return {"path": str(path), "limit": before}


def _limit() -> int:
    from ops.live import live

    return int(live(logfiles.LIMIT))


def shrink_log(memory: dict[str, Any]) -> None:
    """Remove the file and what was rotated of it; the limit is what it was."""
    path = Path(memory["path"])
    for one in (path, *path.parent.glob(f"{path.name}.*")):
        with contextlib.suppress(OSError):
            one.unlink()
    _put_back(logfiles.LIMIT, memory["limit"])


register_fault(
    "logs.oversize",
    title="A log file has grown too large",
    cause=grow_log,
    heal=shrink_log,
    evidence=("files", "limit_bytes"),
)


def age_rows() -> dict[str, Any]:
    """Issues that were over long ago, as if pruning had not run."""
    long_ago = timezone.now() - timedelta(days=400)
    rows = Issue.objects.bulk_create(
        Issue(
            check_id=PRACTICE_CHECK, target=str(number), state="resolved", sentence="Practice.", opened_at=long_ago,
            last_failed_at=long_ago, resolved_at=long_ago + timedelta(minutes=number),
        )
        for number in range(25)
    )  # fmt: skip
    return {"rows": len(rows)}


def forget_rows(memory: dict[str, Any]) -> None:
    """Remove them."""
    Issue.objects.filter(check_id=PRACTICE_CHECK).delete()


register_fault(
    "data.retention",
    title="Rows are kept longer than they should be",
    cause=age_rows,
    heal=forget_rows,
    evidence=("policy_days", "due"),
)
