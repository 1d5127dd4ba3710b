"""Our own log files: not too large, and rotated when they are."""

from __future__ import annotations

import gzip
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings

from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.doctor.repairs import Change, Plan, RepairRefused, RepairWork, register_repair
from ops.doctor_data import usage
from ops.live import live, register_live
from ops.models import CheckState
from ops.registry import CheckOutcome, register_check
from ops.words import counted

CHECK = "logs.oversize"
LIMIT = "logs.max_file_mb"
# So many rotated files of each name are kept.
KEPT = 5
_MB = 1024 * 1024
_DAY = 86400.0


def _megabytes(given: Any) -> int:
    try:
        number = int(given)
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise ValueError("Give megabytes as a whole number, at least 1.")
    return number


register_live(
    LIMIT,
    label="Largest log file (MB)",
    help="A log file of ours that is larger is rotated and compressed.",
    parse=_megabytes,
    default=lambda: 100,
)


@register_check(
    CHECK,
    title="Log files stay small",
    tags=("logs", "disk", "data"),
    interval=300,
    severity="warning",
    repairs=("logs.rotate",),
)
def oversize() -> CheckOutcome:
    """Files that Switchboard itself writes: of parts that it starts, and of the local homeserver. What goes to standard error is the
    business of Docker or systemd; the guide has their settings."""
    limit = int(live(LIMIT)) * _MB
    sizes = {_name(path): path.stat().st_size for path in usage.log_files()}
    growth = _growth(sizes)
    evidence: dict[str, Any] = {"files": sizes, "limit_bytes": limit, "per_day_bytes": growth, "at": round(time.time())}
    large = {name: size for name, size in sizes.items() if size > limit}
    if large:
        first = max(large, key=lambda name: large[name])
        more = f" and {len(large) - 1:,} more are" if len(large) > 1 else " is"
        grows = f"; it grows by {usage.text(growth[first])} a day" if growth.get(first) else ""
        return CheckOutcome(
            "fail",
            f"{first} ({usage.text(large[first])}){more} larger than {usage.text(limit)}{grows}. Rotate it before it fills the disk.",
            evidence,
        )
    if not sizes:
        return CheckOutcome("pass", "Nothing of ours writes log files here; logs go to standard error.", evidence)
    largest = max(sizes, key=lambda name: sizes[name])
    return CheckOutcome(
        "pass", f"{counted(len(sizes), 'log file')}, the largest is {largest} ({usage.text(sizes[largest])}).", evidence
    )


def _name(path: Path) -> str:
    return str(path.relative_to(settings.DATA_DIR))


def _growth(sizes: dict[str, int]) -> dict[str, int]:
    """Bytes a day since the last look, of files that did not shrink."""
    state = CheckState.objects.filter(check_id=CHECK).first()
    before = dict(state.evidence) if state is not None else {}
    seconds = time.time() - float(before.get("at") or 0)
    if not before.get("files") or seconds < 60:
        known: dict[str, int] = before.get("per_day_bytes") or {}
        return known
    return {
        name: round((size - before["files"][name]) / seconds * _DAY)
        for name, size in sizes.items()
        if size >= before["files"].get(name, size + 1)
    }


def plan(work: RepairWork) -> Plan:
    """The files that are too large."""
    limit = int(live(LIMIT)) * _MB
    large = [path for path in usage.log_files() if path.stat().st_size > limit]
    if not large:
        return Plan("No log file is too large.")
    free = shutil.disk_usage(settings.DATA_DIR).free
    size = max(path.stat().st_size for path in large)
    # Text compresses to a tenth and less; a third is on the safe side.
    if free < size // 3:
        raise RepairRefused(
            f"To compress {usage.text(size)} of log, more room is needed. Make room first (disk.cleanup)."
        )
    changes = tuple(
        Change(_name(path), "size", usage.text(path.stat().st_size), "rotated and compressed") for path in large
    )
    return Plan(
        f"{counted(len(large), 'log file is compressed aside and begins', 'log files are compressed aside and begin')} anew.",
        changes,
        {"files": [str(p) for p in large]},
    )


def apply(work: RepairWork) -> dict[str, Any]:
    """Compress what is there, then cut the file: whoever writes goes on writing into it."""
    known = {str(path) for path in usage.log_files()}
    made: dict[str, str] = {}
    for name in work.plan.data["files"]:
        if name not in known:
            continue
        path = Path(name)
        target = path.with_name(f"{path.name}.{datetime.now(UTC):%Y%m%d-%H%M%S}.gz")
        with path.open("r+b") as log:
            with gzip.open(target, "wb", compresslevel=6) as packed:
                shutil.copyfileobj(log, packed, _MB)
            target.chmod(0o600)
            # Lines that came since are still behind: they are taken along, and only then is the file cut.
            rest = log.read()
            if rest:
                with gzip.open(target, "ab") as packed:
                    packed.write(rest)
            log.truncate(0)
        made[name] = str(target)
        work.remember(made=made)
        for old in [one for one in usage.rotated_files() if one.name.startswith(f"{path.name}.")][KEPT:]:
            old.unlink(missing_ok=True)
    return {"rotated": {Path(name).name: Path(target).name for name, target in made.items()}}


def undo(work: RepairWork) -> None:
    """Put the old lines back in front of those that came since."""
    for name, packed in dict(work.snapshot.get("made", {})).items():
        path, source = Path(name), Path(packed)
        if not source.is_file():
            raise RepairRefused(f"{source.name} is gone; its lines cannot be put back.")
        since = path.read_bytes() if path.exists() else b""
        with path.open("r+b" if path.exists() else "w+b") as log, gzip.open(source, "rb") as old:
            shutil.copyfileobj(old, log, _MB)
            log.write(since)
        source.unlink()


register_repair(
    "logs.rotate",
    title="Rotate large log files",
    repair_class="A",
    button="Rotate them",
    explain=f"Compresses log files that are too large aside and lets them begin anew. The last {KEPT} of each are kept.",
    plan=plan,
    apply=apply,
    undo=undo,
)


@register_guide(CHECK)
def guide(target: str, evidence: dict[str, Any]) -> Guide:
    """Limits for those who keep our standard error: Docker and systemd."""
    return Guide(
        "Keep logs small",
        "Switchboard writes its log to standard error; whoever started it keeps that, and has to limit it.",
        (
            GuideStep(
                "Docker: for every service of the compose file.",
                'logging:\n  driver: local\n  options:\n    max-size: "50m"\n    max-file: "5"',
                "yaml",
                "compose.yaml",
            ),
            GuideStep("systemd.", "[Journal]\nSystemMaxUse=500M\nMaxRetentionSec=2week", "ini", "/etc/systemd/journald.conf.d/switchboard.conf"),
            GuideStep("Then restart the journal.", "sudo systemctl restart systemd-journald"),
            GuideStep(f"Write less: LOG_LEVEL is {settings.LOG_LEVEL} now.", "LOG_LEVEL=warning", "ini", ".env"),
        ),
    )  # fmt: skip
