"""Beginning anew with a part, safely: plan, backup that was read to its end, removal in one transaction, and finding again what the
outside still has, so that nothing is made there twice. Taking it back restores that backup.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from ops.backup.errors import BackupError
from ops.choices import OPEN_JOB_STATES
from ops.findings import Finding
from ops.job_kinds import JobFailed, JobHandle, JobStopped, job_kind
from ops.locks import LockHeld, is_held, named_lock, seconds_over_a_transaction
from ops.logs import get_logger
from ops.models import Backup, BackupReason, Job, LiveSetting, Restore, RestoreEpoch
from ops.resets import ALL, ResetScope, ResetWork, chosen
from ops.services.audit import record
from ops.services.jobs import job_start
from ops.words import counted, verb

log = get_logger(__name__)

KIND = "reset.apply"
# A note in the table of live settings: written with the removal, gone when everything was found again.
OPEN = "reset.open"
_LOCK = "reset"
# The step in which rows go; until then it can be cancelled.
_REMOVING = 1

Progress = Callable[[int, int, str], None]


class ResetRefused(Exception):
    """It cannot be done as things stand; nothing was changed. The text says why, and what to do."""


def _nobody(done: int, total: int, text: str) -> None:
    return None


@dataclass(slots=True)
class ResetPlan:
    """What a reset would do. ``word`` has to be typed; ``refused`` says why it would be refused now ("" when it would not)."""

    scopes: tuple[str, ...]
    word: str
    lines: list[dict[str, Any]] = field(default_factory=list)
    outside: list[Finding] = field(default_factory=list)
    instead: list[dict[str, str]] = field(default_factory=list)
    backup: str = ""
    refused: str = ""

    @property
    def rows(self) -> int:
        """How many rows would go."""
        return sum(int(line["count"]) for line in self.lines)

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{scopes, word, rows, lines: [{scope, model, label, count}], outside: [finding], instead: [{sentence, command}],
        backup, refused}``."""
        return {
            "scopes": list(self.scopes),
            "word": self.word,
            "rows": self.rows,
            "lines": self.lines,
            "outside": [finding.to_dict() for finding in self.outside],
            "instead": self.instead,
            "backup": self.backup,
            "refused": self.refused,
        }


def word_for(scopes: Collection[str]) -> str:
    """What has to be typed: ``reset mappings``, ``reset all``."""
    return f"reset {ALL if ALL in scopes else ' '.join(sorted(scopes))}"


def reset_plan(*, scopes: Collection[str]) -> ResetPlan:
    """What would go, what stays outside, and what may help without removing anything. Changes nothing.

    Raises ``ValueError`` with a sentence for scopes that there are none of.
    """
    parts = chosen(scopes)
    names = tuple(sorted({name.strip() for name in scopes if name.strip()}))
    plan = ResetPlan(names, word_for(names))
    for scope in parts:
        for line in scope.lines():
            if line.count:
                plan.lines.append({"scope": scope.name, **line.to_dict()})
        plan.outside += list(scope.outside())
        plan.instead += [one.to_dict() for one in scope.instead()]
    plan.refused = _why_not()
    plan.backup = "A backup is made first and read to its end. Taking the reset back restores it."
    return plan


def _why_not() -> str:
    from ops.retention import on_hold

    if on_hold():
        return "Legal hold is on: nothing may be removed. End it in the live settings (retention.hold) first."
    return ""


def open_job() -> Job | None:
    """The reset that waits for a worker or is being done, if there is one."""
    return Job.objects.filter(kind=KIND, state__in=OPEN_JOB_STATES).first()


def busy_sentence(other: Job) -> str:
    """Why no second reset begins beside this one."""
    return f"{other.title} is under way, as {other.actor} asked for. Look at the plan again when it has ended."


def reset_start(*, scopes: Collection[str], typed: str, actor: str, trigger: str) -> Job:
    """Have it done by a job. Raises ``ValueError`` for unknown scopes and ``ResetRefused`` (also for a word that is not the one)."""
    names = _checked(scopes, typed)
    # Two who confirm at the same moment: one of them is told.
    with named_lock("reset.starting", wait=10.0):
        other = open_job()
        if other is not None:
            raise ResetRefused(busy_sentence(other))
        return job_start(
            kind=KIND,
            title=f"Reset of {_words(names)}",
            actor=actor,
            trigger=trigger,
            params={"scopes": list(names)},
        )


@job_kind(
    KIND,
    label="Reset",
    stopping="It stops as long as no row was removed; then nothing is changed. Afterwards it goes on to its end, and you can take the reset back.",
)
def reset_job(job: JobHandle, *, scopes: list[str]) -> dict[str, Any]:
    """The confirmed reset. After its removal it cannot be cancelled; what is left then is finished by ``reset_finish``."""

    def progress(done: int, total: int, text: str) -> None:
        if done <= _REMOVING and job.should_stop():
            raise JobStopped("It was cancelled. Nothing was removed.")
        job.progress(done, total, text)

    try:
        return reset_now(scopes=scopes, typed=word_for(scopes), actor=job.actor, progress=progress)
    except (ResetRefused, BackupError) as error:
        raise JobFailed(str(error)) from error


def _checked(scopes: Collection[str], typed: str) -> tuple[str, ...]:
    chosen(scopes)
    names = tuple(sorted({name.strip() for name in scopes if name.strip()}))
    if typed.strip() != word_for(names):
        raise ResetRefused(f"Type {word_for(names)!r} to confirm: this removes rows.")
    if reason := _why_not():
        raise ResetRefused(reason)
    return names


def reset_now(*, scopes: Collection[str], typed: str, actor: str, progress: Progress = _nobody) -> dict[str, Any]:
    """Backup, removal, finding again; in this process. Returns ``{scopes, backup, removed: {model: rows}, left: [sentence], findings}``.

    Raises ``ValueError`` for unknown scopes, ``ResetRefused`` (also while another reset runs), and ``BackupError`` when no backup could be
    made: without one nothing is removed.
    """
    from ops.quiet import StillBusy, quiet

    names = _checked(scopes, typed)
    parts = chosen(names)
    findings: list[Finding] = []
    work = ResetWork(actor, tuple(scope.name for scope in parts), findings.append)
    with _alone():
        progress(0, 4, "A backup is made first")
        backup = _safety(names, actor)
        progress(_REMOVING, 4, "The rows go")
        try:
            with quiet(_stillness(names)):
                removed = _remove(parts, names, work, backup)
                progress(2, 4, "What the homeserver has is found again")
                left = _find_again(parts, work)
        except StillBusy as error:
            raise ResetRefused(str(error)) from error
        _close(left)
        progress(3, 4, "What is still under way elsewhere is ended")
        _afterwards(parts, work)
        progress(4, 4, "Done")
    said = f"{counted(sum(removed.values()), 'row')} removed. The backup from before is {backup.name}."
    return {
        "sentence": f"{said} Not everything was found again: {left[0]}" if left else said,
        "scopes": list(names),
        "backup": backup.name,
        "removed": {model: count for model, count in removed.items() if count},
        "left": left,
        "findings": [finding.to_dict() for finding in findings],
    }


@contextmanager
def _alone() -> Iterator[None]:
    """One reset at a time. Raises ``ResetRefused`` for the second."""
    try:
        with named_lock(_LOCK, ttl=seconds_over_a_transaction()):
            yield
    except LockHeld as error:
        if error.name != _LOCK:
            raise
        raise ResetRefused(
            "Another reset is under way. Nothing was changed by this one; look again when that has ended."
        ) from error


def reset_cut_short(*, scopes: Collection[str], actor: str) -> dict[str, Any]:
    """Backup and removal without finding again, as after a kill between the two: for faults and tests. Returns the note that stays."""
    from ops.quiet import quiet

    parts = chosen(scopes)
    names = tuple(sorted(scopes))
    work = ResetWork(actor, tuple(scope.name for scope in parts), lambda finding: None)
    with _alone():
        backup = _safety(names, actor)
        with quiet(_stillness(names)):
            _remove(parts, names, work, backup)
    return open_reset() or {}


def under_way() -> bool:
    """Whether a reset works at this moment."""
    return is_held(_LOCK)


def _safety(names: tuple[str, ...], actor: str) -> Backup:
    """A backup that was read to its end; as one before a change it is kept for a month. Raises ``BackupError``."""
    from ops.services import backups

    note = f"Before a reset of {_words(names)}"
    return backups.backup_now(reason=BackupReason.SAFETY, actor=actor, note=note, verify=True)


def _remove(parts: list[ResetScope], names: tuple[str, ...], work: ResetWork, backup: Backup) -> dict[str, int]:
    now = timezone.now()
    removed: dict[str, int] = {}
    orphans = sum(
        int(finding.evidence.get("rooms", 0))
        for scope in parts
        for finding in scope.outside()
        if finding.code == "reset.orphans"
    )
    with transaction.atomic():
        for scope in parts:
            for model, count in scope.remove(work).items():
                removed[model] = removed.get(model, 0) + count
        note = {
            "scopes": list(names),
            "at": now.isoformat(),
            "backup": backup.name,
            "actor": work.actor,
            "left": [],
            "outside": orphans,
        }
        LiveSetting.objects.update_or_create(key=OPEN, defaults={"value": note, "changed_by": work.actor[:255]})
        _new_epoch()
        record(
            actor=work.actor,
            action="reset.applied",
            target=f"ops.backup:{backup.pk}",
            message=f"{_words(names).capitalize()}: {counted(sum(removed.values()), 'row')} removed. Backup: {backup.name}.",
            after={"scopes": list(names), "backup": backup.name, "removed": removed},
        )
    return removed


def _new_epoch() -> None:
    """Other processes drop what they remember of rows that are gone. ``at`` stays: no rows were put back."""
    row, _ = RestoreEpoch.objects.get_or_create(pk=1)
    RestoreEpoch.objects.filter(pk=row.pk).update(number=F("number") + 1)


def _find_again(parts: list[ResetScope], work: ResetWork) -> list[str]:
    """What the scopes could not find, in sentences. A failure is one of them: the removal stands, and this may be repeated."""
    left: list[str] = []
    for scope in parts:
        if scope.find_again is None:
            continue
        try:
            left += scope.find_again(work)
        except Exception as error:
            log.exception("reset.not_found_again", scope=scope.name)
            left.append(f"{scope.label}: {getattr(error, 'sentence', '') or str(error) or type(error).__name__}")
    return left


def _afterwards(parts: list[ResetScope], work: ResetWork) -> None:
    """The reset stands, whatever becomes of these."""
    for scope in parts:
        if scope.afterwards is None:
            continue
        try:
            scope.afterwards(work)
        except Exception:
            log.exception("reset.not_ended", scope=scope.name)


def open_reset() -> dict[str, Any] | None:
    """The note of a reset after which not everything was found again: ``{scopes, at, backup, actor, left}``; None when there is none."""
    value = LiveSetting.objects.filter(pk=OPEN).values_list("value", flat=True).first()
    return dict(value) if isinstance(value, dict) else None


def reset_finish(*, actor: str, progress: Progress = _nobody) -> dict[str, Any]:
    """Find again what a reset left to be found. Returns ``{scopes, left, findings}``. Raises ``ResetRefused`` when no reset is open."""
    note = open_reset()
    if note is None:
        raise ResetRefused("No reset waits to be finished.")
    parts = chosen(note["scopes"])
    findings: list[Finding] = []
    work = ResetWork(actor, tuple(scope.name for scope in parts), findings.append)
    with _alone():
        progress(0, 1, "What the homeserver has is found again")
        left = _find_again(parts, work)
        _close(left)
        progress(1, 1, "Done")
    with transaction.atomic():
        record(actor=actor, action="reset.finished", message=" ".join(left)[:1000], after={"scopes": note["scopes"]})
    return {
        "scopes": note["scopes"],
        "backup": note["backup"],
        "left": left,
        "findings": [finding.to_dict() for finding in findings],
    }


def _close(left: list[str]) -> None:
    row = LiveSetting.objects.filter(pk=OPEN).first()
    if row is None:
        return
    if not left:
        row.delete()
        return
    row.value = {**row.value, "left": left[:50]}
    row.save(update_fields=["value", "changed_at"])


def last_reset() -> dict[str, Any] | None:
    """What the last reset did, from the audit log: ``{scopes, backup, removed}`` with ``at``, ``actor`` and who took it back since (``undone``, ""
    when nobody did); None when there never was one."""
    from ops.models import AuditEvent

    event = AuditEvent.objects.filter(action="reset.applied").order_by("-id").first()
    if event is None:
        return None
    undone = AuditEvent.objects.filter(action="reset.undone", id__gt=event.pk).order_by("-id").first()
    taken = undone.actor if undone is not None else ""
    return {**dict(event.after or {}), "at": event.at.isoformat(), "actor": event.actor, "undone": taken}


def kinds_of(scopes: Collection[str]) -> tuple[str, ...]:
    """The kinds of rows that bring scopes back from a backup; () for all of them."""
    return () if ALL in scopes else tuple(sorted({scope.kind for scope in chosen(scopes)}))


def reset_undo(*, backup: str = "", scopes: Collection[str] = (), actor: str) -> Restore:
    """Bring back what a reset removed: its backup is restored, that part of it. Without ``backup``: the last reset's.

    Raises ``ResetRefused`` when there is nothing to take back, and what a restore raises.
    """
    from ops.services import restores

    last = last_reset() or {}
    name, names = backup or str(last.get("backup") or ""), list(scopes or last.get("scopes") or ())
    found = Backup.objects.filter(name=name).first() if name else None
    if found is None or not names:
        raise ResetRefused(
            "There is no backup of a reset here that could be restored. manage.py backup list shows all."
        )
    planned = restores.restore_plan(backup=found, kinds=kinds_of(names), actor=actor)
    return restores.restore_apply(restore=planned, actor=actor)


def reset_taken_back(*, restore: Restore, actor: str) -> None:
    """Called with the rows of a restore: when it brings back what the last reset removed, nothing waits to be found again any more."""
    last = last_reset()
    if last is None or last["backup"] != restore.source:
        return
    if restore.kinds and (ALL in last["scopes"] or not set(restore.kinds) >= set(kinds_of(last["scopes"]))):
        return
    LiveSetting.objects.filter(pk=OPEN, value__backup=restore.source).delete()
    message = f"Restored {_words(last['scopes'])} from {restore.source}."
    record(actor=actor, action="reset.undone", target=f"ops.backup:{restore.backup_id}", message=message)


def _stillness(names: Collection[str]) -> str:
    """Why everybody else holds still, for people: names of scopes are plurals, "everything" is not."""
    return f"{_words(names).capitalize()} {verb(1 if ALL in names else 2, 'is', 'are')} being reset"


def _words(names: Collection[str]) -> str:
    return "everything" if ALL in names else " and ".join(sorted(names))
