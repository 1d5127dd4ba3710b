"""Room on the disk: how much, for how long, who uses it; and making some."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from ops import disk_guard
from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.doctor.repairs import Change, Plan, RepairRefused, RepairWork, register_repair
from ops.doctor_data import sqlite, usage
from ops.live import live, register_live
from ops.models import CheckState
from ops.registry import CheckOutcome, ServiceField, register_check
from ops.services.audit import record
from ops.words import counted, verb

CHECK = "disk.space"
BUDGET = "disk.budget_mb"
_MB = 1024 * 1024
_KEEP_DAMAGED = timedelta(days=30)
_WORTH = 8 * _MB
_PARTS_EVERY = 3600.0
ITEMS = ("rotated_logs", "rows", "backups", "wal", "vacuum", "damaged_databases")


def _megabytes(given: Any) -> int:
    try:
        number = int(given)
    except (TypeError, ValueError):
        raise ValueError("Give megabytes as a whole number; 0 means no limit.") from None
    if number < 0:
        raise ValueError("Give megabytes as a whole number; 0 means no limit.")
    return number


register_live(
    BUDGET,
    label="Room for the data directory (MB)",
    help="How much logs, media, backups and databases in the data directory may use together. 0: whatever the disk has.",
    parse=_megabytes,
    default=lambda: 0,
)


@register_check(
    CHECK,
    title="There is room on the disk",
    tags=("start", "disk", "data"),
    interval=60,
    timeout=20,
    repairs=("disk.cleanup",),
    covers=("disk.low",),
)
def disk() -> CheckOutcome:
    """Room where the data directory lies: red below 200 MB or 1 %, when it is used up within three days, or when the data directory
    uses more than it may; amber below 1 GB or 5 %, or within a week, and while something waits for room (``ops.disk_guard``).

    The slope comes from samples that the check keeps in its own evidence, one in ten minutes.
    """
    room = shutil.disk_usage(settings.DATA_DIR)
    share = room.free / room.total if room.total else 0.0
    before = _evidence()
    samples = usage.with_sample(before.get("samples", []), time.time(), room.total - room.free)
    days = usage.days_to_full(samples, room.free)
    low = room.free < 1024 * _MB or share < 0.05
    budget = int(live(BUDGET)) * _MB
    waits = disk_guard.look_now()
    evidence: dict[str, Any] = {
        "waits": waits,
        "reserve_bytes": disk_guard.reserve_bytes(),
        "free_bytes": room.free,
        "total_bytes": room.total,
        "days_to_full": round(days, 1) if days is not None else None,
        "samples": samples,
        **_used_by(before, anew=low or bool(budget)),
    }
    ours = sum(evidence["used_by"].values())
    over = bool(budget) and ours > budget
    disk_guard.learn(budget if over else 0)
    left = f"{room.free / _MB:,.0f} MB ({share:.0%}) are free where the data directory lies"
    most = _most(evidence["used_by"])
    if waits:
        most += f" {disk_guard.WAITING}"
    if room.free < 200 * _MB or share < 0.01:
        return CheckOutcome("fail", f"Only {left}. Make room: a full disk stops the database.{most}", evidence)
    if over:
        told = "" if waits else f" {disk_guard.WAITING}"
        sentence = f"The data directory uses {usage.text(ours)}, and may use {usage.text(budget)}.{most}{told}"
        return CheckOutcome("fail", sentence, {**evidence, "budget_bytes": budget})
    if days is not None and days < 3:
        sentence = f"{left}, and at the present pace they are used up in {days:.1f} days. A full disk stops the database.{most}"
        return CheckOutcome("fail", sentence, evidence)
    if low or waits:
        return CheckOutcome("warn", f"{left}.{most}", evidence)
    if days is not None and days < 7:
        return CheckOutcome(
            "warn",
            f"{left}, and at the present pace they are used up in {days:.0f} {verb(round(days), 'day', 'days')}.{most}",
            evidence,
        )
    return CheckOutcome("pass", f"{left}.", evidence)


def _evidence() -> dict[str, Any]:
    try:
        state = CheckState.objects.filter(check_id=CHECK).first()
    except Exception:
        # This check has to say that the disk is full even when that has stopped the database.
        return {}
    return dict(state.evidence) if state is not None else {}


def _used_by(before: dict[str, Any], *, anew: bool) -> dict[str, Any]:
    """Sizes by kind; counted once an hour, and every time while it matters."""
    known, at = before.get("used_by"), float(before.get("used_by_at") or 0)
    if known and not anew and time.time() - at < _PARTS_EVERY:
        return {"used_by": known, "used_by_at": at}
    return {"used_by": {part.name: part.size for part in usage.parts()}, "used_by_at": round(time.time())}


def _most(used_by: dict[str, int]) -> str:
    largest = sorted(used_by.items(), key=lambda one: -one[1])[:3]
    return f" Of ours most are: {', '.join(f'{name} {usage.text(size)}' for name, size in largest)}." if largest else ""


# Making room


@dataclass(frozen=True, slots=True)
class Item:
    """Something that can go. ``key`` is what ``apply`` needs to find it again."""

    kind: str
    key: str
    what: str
    size: int


def plan(work: RepairWork) -> Plan:
    """What could go, with sizes; nothing that somebody may still need."""
    wanted = {one.strip() for one in str(work.params.get("items") or "").split(",") if one.strip()} or set(ITEMS)
    if unknown := wanted - set(ITEMS):
        raise RepairRefused(f"Nothing is called {', '.join(sorted(unknown))}; there are {', '.join(ITEMS)}.")
    items = [item for item in _items() if item.kind in wanted]
    if not items:
        return Plan(
            f"There is nothing that could go without asking for more: move backups away, shorten retention, or grow the disk.{_purge()}"
        )
    total = sum(item.size for item in items)
    return Plan(
        f"About {usage.text(total)} become free.{_purge()}",
        tuple(Change(item.kind, item.what, before=usage.text(item.size), after=None) for item in items),
        data={"items": [[item.kind, item.key] for item in items]},
    )


def _purge() -> str:
    """What only an operator's word removes: rows that have had their time, with how many there are."""
    from ops.retention import due, on_hold, retention_kinds

    if on_hold():
        return ""
    found = [one for kind in retention_kinds() if not kind.automatic and (one := due(kind))]
    if not found:
        return ""
    told = " and ".join(f"{one.count:,} {one.kind.label}" for one in found)
    return f" Besides, {told} have had their time: manage.py repair retention.run."


def _items() -> Iterable[Item]:
    for path in usage.rotated_files():
        yield Item("rotated_logs", str(path), path.name, path.stat().st_size)
    yield from _old_rows()
    yield from _old_backups()
    folder = Path(settings.DATA_DIR) / "recovered"
    limit = time.time() - _KEEP_DAMAGED.total_seconds()
    for kept in sorted(folder.iterdir()) if folder.is_dir() else ():
        if kept.is_dir() and kept.stat().st_mtime < limit:
            size = sum(path.stat().st_size for path in usage.walk(kept))
            yield Item("damaged_databases", str(kept), f"damaged database of {kept.name[:8]}", size)
    if sqlite.is_sqlite():
        wal = sqlite.beside("-wal")
        if wal.exists() and wal.stat().st_size > _WORTH:
            yield Item("wal", "", "what lies in the WAL is written into the file", wal.stat().st_size)
        with sqlite.raw(read_only=True) as connection:
            empty = int(sqlite.pragma(connection, "freelist_count")) * int(sqlite.pragma(connection, "page_size"))
        size = sqlite.database_file().stat().st_size
        # It writes the database once more before the old one goes.
        if empty > _WORTH and shutil.disk_usage(settings.DATA_DIR).free > 2 * (size - empty):
            yield Item("vacuum", "", "empty pages of the database", empty)


def _old_rows() -> Iterable[Item]:
    """Rows that the hourly pruning takes anyway; many of them only when it has not run."""
    from ops.services.pruning import old_check_results

    count = old_check_results(timezone.now()).count()
    if count:
        yield Item("rows", "", f"{counted(count, 'old row')} of checks", count * 300)


def _old_backups() -> Iterable[Item]:
    """Copies in folders that the rules of their destination keep no longer; elsewhere they take no room here."""
    from ops.models import BackupDestination
    from ops.services.backup_pruning import prune as prune_backups

    folders = set(BackupDestination.objects.filter(kind="folder").values_list("name", flat=True))
    for place, verdict in prune_backups(dry_run=True, actor="system").going:
        if place in folders:
            yield Item(
                "backups",
                verdict.copy.name,
                f"backup of {verdict.copy.made_at:%Y-%m-%d}: {verdict.why}",
                verdict.copy.size,
            )


def apply(work: RepairWork) -> dict[str, Any]:
    """Remove what was shown; what is no longer there is passed over."""
    from ops.services.backup_pruning import prune as prune_backups
    from ops.services.pruning import prune

    before = shutil.disk_usage(settings.DATA_DIR).free
    items = [(str(kind), str(key)) for kind, key in work.plan.data["items"]]
    allowed = {str(path) for path in usage.rotated_files()}
    pruned: dict[str, int] = {}
    backups_pruned = False
    for number, (kind, key) in enumerate(items):
        work.progress(number, len(items), kind)
        if kind == "rotated_logs" and key in allowed:
            Path(key).unlink(missing_ok=True)
        elif kind == "damaged_databases" and Path(key).parent == Path(settings.DATA_DIR) / "recovered":
            shutil.rmtree(key, ignore_errors=True)
        elif kind == "backups" and not backups_pruned:
            # All at once: the rules decide anew, and never take the last good one.
            prune_backups(dry_run=False, actor=work.actor)
            backups_pruned = True
        elif kind == "rows":
            pruned = prune()
        elif kind in ("wal", "vacuum"):
            with sqlite.raw(timeout=20) as connection:
                if kind == "vacuum":
                    connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    freed = shutil.disk_usage(settings.DATA_DIR).free - before
    disk_guard.forget()
    record(actor=work.actor, action="disk.cleaned", after={"items": len(items), "freed_bytes": freed})
    return {"items": len(items), "freed_bytes": freed, "pruned": pruned}


register_repair(
    "disk.cleanup",
    title="Make room on the disk",
    repair_class="C",
    button="Show what could go",
    explain="Rotated logs, rows that have had their time, backups beyond what their destination keeps, empty pages of the database, copies of damaged databases older than 30 days. "
    "Each is shown with its size first.",
    plan=plan,
    apply=apply,
    fields=(ServiceField("items", "Only these", f"Separated by commas: {', '.join(ITEMS)}. Empty: all."),),
    long=True,
)


@register_guide(CHECK)
def guide(target: str, evidence: dict[str, Any]) -> Guide:
    """When what is ours is not what fills the disk."""
    folder = settings.DATA_DIR
    return Guide(
        "Make room on the disk",
        "A full disk stops the database, and with it everything. The repair removes what of ours can go; the rest is somebody's.",
        (
            GuideStep("What is large on that disk.", f"df -h '{folder}'\ndu -xh --max-depth=2 '{folder}' | sort -h | tail -20"),
            GuideStep("Docker's leftovers, where Docker runs.", "docker system df\ndocker image prune"),
            GuideStep("The journal, where systemd runs.", "journalctl --disk-usage\nsudo journalctl --vacuum-size=200M"),
            GuideStep("Move the data directory to a larger disk: stop Switchboard, copy it, and name the new place.", f"rsync -a '{folder}/' /new/place/\n# .env\nDATA_DIR=/new/place"),
        ),
    )  # fmt: skip
