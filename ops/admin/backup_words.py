"""What the pages about backups say in words: whether one is good, who opens it, where it lies, and how all of them stand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Exists, OuterRef, Q
from django.utils import timezone

from ops import html
from ops.choices import Lamp
from ops.models import (
    Backup,
    BackupCopy,
    BackupDestination,
    BackupKey,
    BackupPlan,
    BackupReason,
    BackupState,
    CopyState,
    DrillState,
)
from ops.services.backups import last_good
from ops.words import counted, verb

WHOLE = (BackupState.COMPLETE, BackupState.PARTIAL)
# A good backup is as old as the last drill of one; on top of the plan's own distances this much is let pass.
_LATE = timedelta(hours=12)


def goodness(row: Backup, *, proven: Backup | None = None) -> tuple[Lamp, str, str]:
    """Lamp, word and sentence: only a backup that a drill restored, and that still lies somewhere, is good.

    Wants ``drills`` (newest first) and ``copies`` prefetched. ``proven`` is the last good one: nobody waits for a drill of those from before it.
    """
    if row.state == BackupState.RUNNING:
        return Lamp.WORKING, "Being made", "It is being made."
    if row.state == BackupState.FAILED:
        return Lamp.TROUBLE, "Failed", row.error or "It was not finished."
    if row.verify_error:
        return Lamp.TROUBLE, "Damaged", row.verify_error
    if not any(one.state in (CopyState.STORED, CopyState.WAITING) for one in row.copies.all()):
        return (
            Lamp.TROUBLE,
            "Gone",
            "No destination has it any more, so it cannot be restored. Its file may still be brought from elsewhere.",
        )
    last = next(iter(row.drills.all()), None)
    if last is not None and last.state == DrillState.RUNNING:
        return Lamp.WORKING, "Being drilled", "It is being restored into a scratch place right now."
    if row.good_at:
        return Lamp.GOOD, "Good", f"A drill restored all of it {html.relative(row.good_at)}."
    if last is not None and last.state == DrillState.FAILED:
        return Lamp.TROUBLE, "Drill failed", last.error or "The drill failed; its steps say where."
    # One from before a change is there to take that change back; nobody waits for its drill.
    awaited = row.reason != BackupReason.SAFETY and (proven is None or proven.made_at < row.made_at)
    lamp = Lamp.ATTENTION if awaited else Lamp.OFF
    said = "It was read to its end and is undamaged. " if row.verified_at else ""
    return lamp, "Not drilled", f"{said}Nobody has tried to restore it yet."


def whereabouts(row: Backup) -> tuple[Lamp, str]:
    """Where it lies, from its copies (prefetched with their destinations)."""
    copies = [one for one in row.copies.all() if one.state != CopyState.PRUNED]
    stored = [one for one in copies if one.state == CopyState.STORED]
    if not copies:
        return Lamp.OFF, "Nowhere any more" if row.state in WHOLE else "Nowhere"
    if len(stored) == len(copies):
        names = [one.destination.name for one in stored]
        return Lamp.GOOD, ", ".join(names) if len(names) < 3 else f"{len(names)} destinations"
    waiting = any(one.state == CopyState.WAITING for one in copies)
    return (
        Lamp.WORKING if waiting and row.state == BackupState.RUNNING else Lamp.ATTENTION if stored else Lamp.TROUBLE,
        f"{len(stored)} of {len(copies)} destinations",
    )


def machine_fingerprint() -> str:
    """The fingerprint of this machine's own key; "" where none can be had."""
    from ops.backup.age import fingerprint, machine_identity, recipients_of

    try:
        return fingerprint(recipients_of([machine_identity()])[0])
    except Exception:  # a key that is set wrong is the doctor's business, and must not take the pages along
        return ""


@dataclass(frozen=True, slots=True)
class Opener:
    """Somebody who opens a backup."""

    fingerprint: str
    label: str
    kind: str  # machine, recovery, unknown
    key: BackupKey | None = None


def openers(rows: Iterable[Backup]) -> dict[object, list[Opener]]:
    """Who opens each of the rows, by its number; one query for all."""
    known = {key.fingerprint: key for key in BackupKey.objects.all()}
    machine = machine_fingerprint()
    return {row.pk: [_opener(print_, known, machine) for print_ in row.recipients] for row in rows}


def _opener(fingerprint: str, known: dict[str, BackupKey], machine: str) -> Opener:
    if fingerprint == machine:
        return Opener(fingerprint, "This machine", "machine")
    key = known.get(fingerprint)
    if key is not None:
        return Opener(fingerprint, key.label, "recovery", key)
    return Opener(fingerprint, "A key that is not listed here", "unknown")


def openers_words(found: list[Opener]) -> tuple[Lamp, str]:
    """In few words: whether somebody could open it on another machine."""
    keys = [one for one in found if one.kind == "recovery"]
    if keys:
        return Lamp.GOOD, ", ".join(one.label for one in keys) if len(keys) < 3 else f"{len(keys)} recovery keys"
    if any(one.kind == "machine" for one in found):
        return Lamp.ATTENTION, "Only this machine"
    return Lamp.ATTENTION, "Another key" if found else "Not known"


@dataclass(frozen=True, slots=True)
class Standing:
    """How all backups stand together: could something be lost?"""

    lamp: Lamp
    word: str
    sentence: str
    hints: list[tuple[Lamp, str, str, str]]  # lamp, sentence, button, name of the address
    last_good: Backup | None
    newest: Backup | None
    running: Backup | None
    plan: BackupPlan | None

    @property
    def short(self) -> str:
        """One line for the dashboard."""
        if self.last_good is not None:
            return f"Last good backup {html.relative(self.last_good.made_at)}."
        return "There is no good backup." if self.newest else "There is no backup."


def late_after(plan: BackupPlan | None) -> timedelta:
    """How old the last good backup may be: a plan's drill comes every few days, and proves a backup of its last round."""
    if plan is None or not plan.enabled:
        return timedelta(days=8)
    return timedelta(days=max(plan.drill_every_days, 1), hours=plan.every_hours) + _LATE


def standing(now: datetime | None = None) -> Standing:
    """A constant number of queries: the newest, the last good, a running one, keys, places, the plan."""
    now = now or timezone.now()
    # The manifest of a large installation is long, and no line of it is shown here.
    rows = Backup.objects.defer("manifest", "parts", "missing")
    # One whose copies are gone restores nothing, whatever its drill said.
    here = rows.filter(
        Exists(BackupCopy.objects.filter(backup=OuterRef("pk"), state=CopyState.STORED)), state__in=WHOLE
    )
    good = last_good()
    newest = here.order_by("-made_at").first()
    running = rows.filter(state=BackupState.RUNNING).order_by("-made_at").first()
    plan = BackupPlan.objects.order_by("pk").first()
    keys = BackupKey.objects.filter(confirmed_at__isnull=False, retired_at=None).count()
    places = BackupDestination.objects.filter(enabled=True).aggregate(
        all=Count("pk"), bad=Count("pk", filter=~Q(last_error=""))
    )
    gone = newest is None and rows.filter(state__in=WHOLE).exists()
    lamp, word, sentence = _nowhere() if gone else _verdict(good, newest, plan, now)
    return Standing(lamp, word, sentence, list(_hints(keys, places, plan)), good, newest, running, plan)


def _nowhere() -> tuple[Lamp, str, str]:
    return (
        Lamp.TROUBLE,
        "Gone",
        "Backups were made, and no destination has one any more. Bring a file that you still have, or make a new backup now.",
    )


def _verdict(
    last_good: Backup | None, newest: Backup | None, plan: BackupPlan | None, now: datetime
) -> tuple[Lamp, str, str]:
    if newest is None:
        if plan is not None and plan.enabled and plan.next_at is not None and plan.next_at > now - _LATE:
            first = html.relative(max(plan.next_at, now), now)
            return Lamp.ATTENTION, "No backup yet", f"No backup has been made yet; the first is made {first}."
        if plan is None:
            return Lamp.ATTENTION, "No backup yet", "No backup has been made yet."
        return Lamp.TROUBLE, "No backup", "Everything would be lost with this machine: no backup has been made."
    if last_good is None:
        age = html.relative(newest.made_at, now)
        if now - newest.made_at < _LATE:
            return (
                Lamp.ATTENTION,
                "Not proven",
                f"The only backup was made {age}, and no drill has shown yet that it restores.",
            )
        return Lamp.TROUBLE, "Not proven", f"No backup is known to restore: the newest is {age} and passed no drill."
    lamp, newer = _newer(newest, last_good, now)
    age = html.relative(last_good.made_at, now)
    if now - last_good.made_at > late_after(plan):
        return Lamp.TROUBLE, "Too old", f"The last good backup is {age.removesuffix(' ago')} old.{newer}"
    return lamp, "Safe" if lamp is Lamp.GOOD else "Look", f"The last good backup was made {age}.{newer}"


def _newer(newest: Backup, last_good: Backup, now: datetime) -> tuple[Lamp, str]:
    """What is to be said of a newest backup that is not the last good one."""
    if newest.pk == last_good.pk:
        return Lamp.GOOD, ""
    age = html.relative(newest.made_at, now)
    if newest.verify_error:
        return Lamp.ATTENTION, f" The newest was made {age} and is damaged."
    state = newest.drills.order_by("-id").values_list("state", flat=True).first()
    if state == DrillState.FAILED:
        return Lamp.ATTENTION, f" The newest was made {age}, and its drill failed."
    if state == DrillState.RUNNING:
        return Lamp.GOOD, f" The newest was made {age} and is being drilled."
    if newest.reason == BackupReason.SAFETY:
        return Lamp.GOOD, ""
    return Lamp.GOOD, f" The newest was made {age} and waits for its drill."


def _hints(keys: int, places: dict[str, int], plan: BackupPlan | None) -> Iterable[tuple[Lamp, str, str, str]]:
    if not keys:
        yield (
            Lamp.ATTENTION,
            "Nobody holds a recovery key: with this machine the key to its backups would be lost as well.",
            "Make a recovery key",
            "ops_backupkey_new",
        )
    if places["bad"]:
        sentence = f"{counted(places['bad'], 'destination')} {verb(places['bad'], 'does', 'do')} not work."
        yield Lamp.TROUBLE, sentence, "Look at the destinations", "ops_backupdestination_changelist"
    elif places["all"] < 2:
        yield (
            Lamp.ATTENTION,
            "Copies lie nowhere but in this machine's own folder: a broken disk takes them along."
            if places["all"]
            else "There is no destination for copies.",
            "Add a destination",
            "ops_backupdestination_add",
        )
    if plan is not None and not plan.enabled:
        yield (
            Lamp.ATTENTION,
            "Backups are made only by hand: the plan is switched off.",
            "Look at the plan",
            "ops_backup_plan",
        )
