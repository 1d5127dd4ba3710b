"""Backups as commands print them, and as JSON for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ops.backup import age
from ops.backup.errors import BackupError
from ops.choices import Lamp
from ops.doctor_data.usage import text as size_text
from ops.html import relative
from ops.models.backup import (
    Backup,
    BackupDestination,
    BackupDrill,
    BackupKey,
    BackupPlan,
    BackupState,
    CopyState,
    DrillState,
)
from ops.services.backup_pruning import Pruning
from ops.terminal import lamp_text


def find(word: str) -> Backup:
    """The backup of this name, beginning of a name, or id. Raises ``ValueError``."""
    rows = Backup.objects.filter(name=word)
    if not rows:
        try:
            rows = Backup.objects.filter(pk=UUID(word))
        except ValueError:
            rows = Backup.objects.filter(name__startswith=word)
    found = list(rows[:2])
    if len(found) != 1:
        what = "Several backups begin" if found else "No backup begins"
        raise ValueError(f"{what} with {word!r}; see: manage.py backup list")
    return found[0]


def backup_dict(row: Backup) -> dict[str, Any]:
    """JSON of one backup with its copies, without its manifest."""
    return {
        "id": str(row.pk),
        "name": row.name,
        "state": row.state,
        "reason": row.reason,
        "note": row.note,
        "version": row.version,
        "made_at": row.made_at.isoformat(),
        "size": row.size,
        "sha256": row.sha256,
        "rows": row.rows,
        "parts": row.parts,
        "missing": row.missing,
        "error": row.error,
        "pinned": row.pinned,
        "recipients": row.recipients,
        "verified_at": row.verified_at.isoformat() if row.verified_at else None,
        "verify_error": row.verify_error,
        "good_at": row.good_at.isoformat() if row.good_at else None,
        "copies": [
            {"destination": copy.destination.name, "state": copy.state, "size": copy.size, "error": copy.error}
            for copy in row.copies.all()
        ],
    }


def drill_dict(row: BackupDrill) -> dict[str, Any]:
    """JSON of one drill."""
    return {
        "backup": row.backup.name,
        "state": row.state,
        "steps": row.steps,
        "findings": row.findings,
        "rows": row.rows,
        "seconds": row.seconds,
        "error": row.error,
    }


def key_dict(row: BackupKey) -> dict[str, Any]:
    """JSON of one key."""
    return {
        "label": row.label,
        "recipient": row.recipient,
        "fingerprint": row.fingerprint,
        "confirmed_at": row.confirmed_at.isoformat() if row.confirmed_at else None,
        "retired_at": row.retired_at.isoformat() if row.retired_at else None,
    }


def destination_dict(row: BackupDestination) -> dict[str, Any]:
    """JSON of one destination, without its credentials."""
    return {
        "name": row.name,
        "kind": row.kind,
        "options": row.options,
        "enabled": row.enabled,
        "keep": {
            "last": row.keep_last,
            "daily": row.keep_daily,
            "weekly": row.keep_weekly,
            "monthly": row.keep_monthly,
        },
        "last_ok_at": row.last_ok_at.isoformat() if row.last_ok_at else None,
        "last_error": row.last_error,
    }


def plan_dict(row: BackupPlan) -> dict[str, Any]:
    """JSON of the plan."""
    return {
        "enabled": row.enabled,
        "every_hours": row.every_hours,
        "at": row.at.isoformat() if row.at else None,
        "timezone": row.timezone,
        "jitter_minutes": row.jitter_minutes,
        "contents": row.contents,
        "drill_every_days": row.drill_every_days,
        "next_at": row.next_at.isoformat() if row.next_at else None,
        "last_complete_at": row.last_complete_at.isoformat() if row.last_complete_at else None,
    }


def _table(*titles: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for title in titles:
        table.add_column(title)
    return table


def good_word(row: Backup) -> Text:
    """Good after a drill, well after a reading, damaged, or not looked at."""
    if row.verify_error:
        return lamp_text(Lamp.TROUBLE, "damaged")
    if row.good_at:
        return lamp_text(Lamp.GOOD, f"drilled {relative(row.good_at)}")
    if row.verified_at:
        return lamp_text(Lamp.ATTENTION, "read, not drilled")
    return lamp_text(Lamp.OFF, "not read yet")


def print_list(console: Console, rows: Sequence[Backup]) -> None:
    """One line a backup."""
    table = _table("", "Made", "Size", "Rows", "Name", "Where", "Good?", "Note")
    for row in rows:
        state = BackupState(row.state)
        stored = [copy.destination.name for copy in row.copies.all() if copy.state == CopyState.STORED]
        note = " ".join(filter(None, ["pinned" if row.pinned else "", row.note or row.error]))
        table.add_row(
            lamp_text(state.lamp, state.label),
            relative(row.made_at),
            size_text(row.size),
            f"{row.rows:,}",
            row.name,
            ", ".join(stored) or "nowhere",
            good_word(row) if state in (BackupState.COMPLETE, BackupState.PARTIAL) else "",
            note,
        )
    console.print(table if rows else "There is no backup yet. Make one: manage.py backup create")


def print_one(console: Console, row: Backup) -> None:
    """Everything about one."""
    state = BackupState(row.state)
    console.print(lamp_text(state.lamp, f"{row.name}: {state.label}"))
    console.print(
        f"Made {row.made_at:%Y-%m-%d %H:%M} UTC by version {row.version or 'unknown'} ({row.get_reason_display().lower()}). {row.note}".rstrip()
    )
    if row.error:
        console.print(Text(row.error, style="red"))
        return
    console.print(f"{size_text(row.size)}, {row.rows:,} rows. SHA-256 {row.sha256 or 'not known yet'}")
    console.print(good_word(row))
    if row.verify_error:
        console.print(Text(row.verify_error, style="red"))
    parts = _table("Part", "What is in it", "Size")
    for name, part in row.parts.items():
        items = part.get("items", 0)
        parts.add_row(part.get("label", name), part.get("sentence") or f"{items:,}", size_text(part.get("size", 0)))
    if row.parts:
        console.print(parts)
    for name, why in row.missing.items():
        console.print(lamp_text(Lamp.ATTENTION, f"{name} is not in it: {why}"))
    copies = _table("", "Where", "Since", "Note")
    for copy in row.copies.select_related("destination"):
        copy_state = CopyState(copy.state)
        since = relative(copy.stored_at) if copy.stored_at else ""
        copies.add_row(lamp_text(copy_state.lamp, copy_state.label), copy.destination.name, since, copy.error)
    console.print(copies)
    keys = dict(BackupKey.objects.filter(fingerprint__in=row.recipients).values_list("fingerprint", "label"))
    keys |= dict.fromkeys(_own_fingerprints(), "this machine")
    opens = ", ".join(f"{keys.get(one, 'a key that is not known here')} ({one})" for one in row.recipients)
    console.print(f"Opened by: {opens or 'not known'}")


def _own_fingerprints() -> list[str]:
    try:
        return [age.fingerprint(one) for one in age.recipients_of([age.machine_identity()])]
    except BackupError:
        return []


def print_drill(console: Console, row: BackupDrill) -> None:
    """Step by step."""
    for step in row.steps:
        lamp = Lamp.GOOD if step.get("ok") else Lamp.TROUBLE
        console.print(lamp_text(lamp, str(step.get("sentence") or step.get("step"))))
    state = DrillState(row.state)
    console.print(lamp_text(state.lamp, f"{state.label} after {row.seconds:.1f} s. {row.error}".rstrip()))


def print_keys(console: Console, rows: Sequence[BackupKey]) -> None:
    """One line a key."""
    table = _table("", "Label", "Fingerprint", "Made", "Public half")
    for row in rows:
        lamp, word = (
            (Lamp.OFF, "retired")
            if row.retired_at
            else (Lamp.GOOD, "confirmed")
            if row.confirmed_at
            else (Lamp.ATTENTION, "not confirmed")
        )
        table.add_row(lamp_text(lamp, word), row.label, row.fingerprint, relative(row.created_at), row.recipient)
    console.print(table if rows else "There is no recovery key.")


def print_destinations(console: Console, rows: Sequence[BackupDestination]) -> None:
    """One line a destination."""
    table = _table("", "Name", "Where", "Keeps (last, daily, weekly, monthly)", "Last well", "Last error")
    for row in rows:
        lamp = Lamp.OFF if not row.enabled else Lamp.TROUBLE if row.last_error else Lamp.GOOD
        where = row.options.get(
            "path"
        ) or f"s3://{row.options.get('bucket', '')}/{row.options.get('prefix', '')}".rstrip("/")
        table.add_row(
            lamp_text(lamp, "off" if not row.enabled else ""),
            row.name,
            where,
            f"{row.keep_last}, {row.keep_daily}, {row.keep_weekly}, {row.keep_monthly}",
            relative(row.last_ok_at) if row.last_ok_at else "never",
            row.last_error,
        )
    console.print(table)


def print_plan(console: Console, row: BackupPlan) -> None:
    """In two sentences."""
    if not row.enabled:
        console.print(lamp_text(Lamp.OFF, "No backups are made by themselves."))
        return
    at = f" at {row.at:%H:%M} ({row.timezone})" if row.at else ""
    console.print(
        f"Every {row.every_hours} hours{at}, spread over {row.jitter_minutes} minutes; a drill every {row.drill_every_days} days."
    )
    if row.contents:
        console.print(f"With: {', '.join(row.contents)}.")
    console.print(
        f"Next: {row.next_at:%Y-%m-%d %H:%M} UTC."
        if row.next_at
        else "The next one is planned within a minute, when a worker runs."
    )


def print_pruning(console: Console, found: Pruning, dry_run: bool) -> None:
    """What goes, what stays, and why."""
    table = _table("", "Where", "Name", "Made", "Why")
    for name, plan in found.plan.items():
        for verdict in plan:
            lamp, word = (Lamp.OFF, "goes") if verdict.goes else (Lamp.GOOD, "stays")
            made = f"{verdict.copy.made_at:%Y-%m-%d %H:%M}"
            table.add_row(lamp_text(lamp, word), name, verdict.copy.name, made, verdict.why)
    console.print(table)
    for finding in found.findings:
        console.print(lamp_text(Lamp.TROUBLE, finding.sentence))
    if not dry_run:
        console.print(f"{found.removed} copies were removed, {size_text(found.freed)} became free.")
