"""Restores: compared first, applied in one transaction after a safety backup, brought together with the outside, and taken back.

``restore_plan``, ``restore_apply`` and ``restore_undo`` work in this process (commands, repairs); those with ``_start`` give the work to a job
(pages, the API). An empty machine: ``ops.services.restore_fresh``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db import DEFAULT_DB_ALIAS, transaction
from django.utils import timezone

from ops.backup.apply import Applied, apply_staged
from ops.backup.components import Component, Putting
from ops.backup.errors import BackupError
from ops.backup.files import KEYS_COMPONENT, look_through, put_files
from ops.backup.hooks import befores
from ops.backup.plan import findings_of
from ops.backup.scopes import kinds as all_kinds
from ops.backup.staging import Staging, staging
from ops.choices import OPEN_JOB_STATES
from ops.findings import Finding
from ops.job_kinds import JobLost, JobStopped
from ops.locks import LockHeld, named_lock, seconds_over_a_transaction
from ops.logs import get_logger
from ops.models import JobTrigger
from ops.models.restore import Restore, RestoreState
from ops.quiet import StillBusy, quiet
from ops.redaction import redact_text
from ops.services import audit
from ops.services.reconciling import reconcile
from ops.services.restore_planning import (
    LOCK,
    Progress,
    RestoreRefused,
    choice_of,
    fail,
    file_of,
    give_to_job,
    key_of,
    new_restore,
    plan_now,
    plan_of,
    put_aside,
    remember_key,
    restore_plan,
    restore_plan_start,
    settle_dead,
    silent,
    stage,
    to_state,
)
from ops.words import counted, verb

logger = get_logger(__name__)

__all__ = [
    "RestoreRefused",
    "plan_now",
    "restore_apply",
    "restore_apply_start",
    "restore_discard",
    "restore_plan",
    "restore_plan_start",
    "restore_undo",
    "restore_undo_start",
]


def restore_apply_start(
    *, restore: Restore, actor: str, identities: Sequence[str] | None = None, trigger: str = JobTrigger.SYSTEM
) -> Restore:
    """Begin to apply a planned restore, as a job. Raises ``RestoreRefused``."""
    _refuse_unless_planned(restore)
    remember_key(restore, identities)
    return give_to_job(restore, "restore.apply", f"Restore {restore.source}", actor=actor, trigger=trigger, once=True)


def _refuse_unless_planned(restore: Restore) -> None:
    if restore.state != RestoreState.PLANNED:
        raise RestoreRefused(_NOT_READY[RestoreState(restore.state)])


_NOT_READY = {
    RestoreState.PLANNING: "It is still being compared. Look at it again.",
    RestoreState.APPLYING: "It is being applied already. Look at it again.",
    RestoreState.RECONCILING: "It was applied already, and is being brought together with the outside. Look at it again.",
    RestoreState.DONE: "It was applied already. Look at it again.",
    RestoreState.FAILED: "It failed, and nothing was changed: compare again.",
    RestoreState.DISCARDED: "It was discarded, and nothing was changed: compare again.",
    RestoreState.UNDONE: "It was applied, and taken back since: compare again.",
}


def restore_go_on_start(*, restore: Restore, actor: str, trigger: str = JobTrigger.SYSTEM) -> Restore:
    """Have a worker finish a restore whose rows are in and whose process died since, as a job. Raises ``RestoreRefused``."""
    if restore.state != RestoreState.RECONCILING:
        raise RestoreRefused("Nothing of this restore waits to be finished.")
    title = f"Finish the restore of {restore.source}"
    return give_to_job(restore, "restore.apply", title, actor=actor, trigger=trigger, once=True)


def restore_apply(
    *,
    restore: Restore,
    actor: str,
    identities: Sequence[str] | None = None,
    progress: Progress = silent,
    wait: float = 0.0,
) -> Restore:
    """Apply a planned restore in this process: safety backup, one transaction, files, reconciliation. Returns the row, done.

    Safe to call again after a kill: what was committed is not done twice. Raises ``BackupError`` with a sentence; then no row was changed.
    """
    remember_key(restore, identities)
    try:
        with named_lock(LOCK, ttl=seconds_over_a_transaction(), wait=wait):
            restore.refresh_from_db()
            settle_dead(but=restore)
            if restore.state == RestoreState.APPLYING or restore.state == RestoreState.PLANNED:
                _apply(restore, actor, progress)
            elif restore.state != RestoreState.RECONCILING:
                _refuse_unless_planned(restore)
            if restore.state == RestoreState.RECONCILING:
                _put_what_is_missing(restore, progress)
                reconcile(restore, actor=actor, fresh=_was_fresh(restore), progress=progress)
    except LockHeld as error:
        raise RestoreRefused("Another restore is being applied at the moment. Wait until it has ended.") from error
    return restore


def _apply(restore: Restore, actor: str, progress: Progress) -> None:
    if restore.state == RestoreState.PLANNED:
        to_state(restore, RestoreState.PLANNED, RestoreState.APPLYING)
    try:
        path, identities = file_of(restore), key_of(restore)
        with staging() as staged:
            keys, parts = stage(staged, path, identities, progress)
            with quiet("A backup is being restored"):
                progress(0, 0, "Making a backup of what is here")
                _safety(restore, actor)
                # Files of conversations come before their rows: a disk that is full stops it while nothing is changed. The others follow
                # the commit; in the file they may stand before these, so each needs a pass of its own, and none when it has nothing.
                putting = _putting(restore, keys)
                files = put_files(
                    path, identities, putting, wanted=lambda one: _first(one) and _is_wanted(one, restore), parts=parts
                )
                if broken := [said for said in files.values() if said["error"]]:
                    raise BackupError(f"{broken[0]['label']} could not be put back: {broken[0]['error']}")
                progress(0, 0, "Restoring: nobody else writes now")
                applied = _apply_rows(restore, staged, keys, actor, _noted(restore))
                progress(0, 0, "Putting back files")
                files |= put_files(
                    path,
                    identities,
                    putting,
                    wanted=lambda one: not _first(one) and _is_wanted(one, restore, keys),
                    parts=parts,
                )
        note_files(restore, files, [*applied.findings])
    except (StillBusy, LockHeld) as error:
        fail(restore, error)
        raise RestoreRefused(str(error)) from error
    except JobLost:
        raise  # another worker has it, waits for our lock, and goes on
    except JobStopped as stopped:
        put_aside(restore, str(stopped))
        raise
    except Exception as error:
        fail(restore, error)
        raise


def _was_fresh(restore: Restore) -> bool:
    return bool(restore.report.get("rows", {}).get("fresh"))


def _put_what_is_missing(restore: Restore, progress: Progress) -> None:
    """The files of a restore whose process died between its commit and them: what is there already is left."""
    if "files" in restore.report:
        return
    progress(0, 0, "Putting back files")
    path, identities = file_of(restore), key_of(restore)
    keys = look_through(path, identities).keys
    putting = _putting(restore, keys)
    putting.extra["fresh"] = _was_fresh(restore)
    note_files(restore, put_files(path, identities, putting, wanted=lambda one: _is_wanted(one, restore, keys)), [])


def _first(one: Component) -> bool:
    return one.kind == "conversations"


def _is_wanted(one: Component, restore: Restore, keys: Collection[str] = ()) -> bool:
    """Files of the chosen kinds; and keys, of whatever kind, when second factors and stores would stay closed without them."""
    if one.name == KEYS_COMPONENT and set(keys) - set(settings.FIELD_ENCRYPTION_KEYS):
        return True
    return not restore.kinds or one.kind in restore.kinds


def _putting(restore: Restore, keys: tuple[str, ...]) -> Putting:
    def say(finding: Finding) -> None:
        restore.findings = [*restore.findings, finding.to_dict()]

    return Putting(Path(settings.DATA_DIR), DEFAULT_DB_ALIAS, drill=False, say=say, keys=keys, extra={"fresh": False})


def _safety(restore: Restore, actor: str) -> None:
    from ops.services.backups import backup_now

    if restore.safety_id is not None:
        return  # from before a kill: nothing was changed since
    safety = backup_now(actor=actor, reason="safety", note=f"Before the restore of {restore.source}"[:300])
    restore.safety = safety
    Restore.objects.filter(pk=restore.pk).update(safety=safety)


def _noted(restore: Restore) -> dict[str, Any]:
    """What is under way outside at this moment, for the steps that follow the commit: its rows may go. No failure in it stops the restore."""
    kinds = tuple(restore.kinds) or tuple(kind.name for kind in all_kinds())
    noted = {}
    for name, function in befores().items():
        try:
            said = function(kinds)
        except Exception as error:
            logger.exception("not_noted_before_restore", what=name)
            said = {"sentence": "", "error": redact_text(" ".join(str(error).split()))[:500] or type(error).__name__}
        if said:
            noted[f"before.{name}"] = {"label": name, **said}
    return noted


def _apply_rows(restore: Restore, staged: Staging, keys: tuple[str, ...], actor: str, noted: dict[str, Any]) -> Applied:
    from ops.services.resets import reset_taken_back

    assert restore.made_at is not None

    def in_transaction(applied: Applied) -> None:
        said = plan_of(restore, applied.difference)
        restore.applied_at = timezone.now()
        restore.plan = said
        restore.findings = [one.to_dict() for one in findings_of(applied.difference)]
        restore.report = {"rows": {"label": "Rows", "sentence": rows_sentence(said), "epoch": applied.epoch}, **noted}
        if applied.swept:
            number = applied.swept.total()
            names = ", ".join(sorted(applied.swept))
            restore.report["swept"] = {
                "label": "Rows outside of the backup",
                "sentence": f"{counted(number, 'row')} of {names} went with what {verb(number, 'it', 'they')} referred to.",
            }
        to_state(restore, RestoreState.APPLYING, RestoreState.RECONCILING, "applied_at", "plan", "findings", "report")
        audit.record(
            actor=actor,
            action="restore.applied",
            target=restore,
            message=rows_sentence(said),
            after={"source": restore.source, "kinds": restore.kinds, "epoch": applied.epoch, "words": _words(said)},
        )
        reset_taken_back(restore=restore, actor=actor)

    return apply_staged(
        staged,
        DEFAULT_DB_ALIAS,
        kinds=restore.kinds,
        backup_keys=keys,
        cut_at=restore.made_at,
        restore_id=restore.pk,
        choice=choice_of(restore),
        in_transaction=in_transaction,
    )


def _words(plan: dict[str, Any]) -> dict[str, Any]:
    """What became of words since the cut, in numbers."""
    said = plan.get("since", {}).get("words", {})
    return {name: said[name] for name in ("kept", "messages", "conversations") if name in said}


def rows_sentence(plan: dict[str, Any]) -> str:
    """What was changed, in a sentence."""
    return (
        f"{counted(plan['added'], 'row')} added, {plan['changed']:,} changed, {plan['removed']:,} removed, "
        f"{plan['same']:,} were the same."
    )


def note_files(restore: Restore, files: dict[str, dict[str, Any]], findings: list[Finding]) -> None:
    """Write into the row what became of the files, and what fences had to say."""
    failed = sum(1 for said in files.values() if said["error"])
    restore.report["files"] = {
        "label": "Files",
        "sentence": f"{counted(len(files), 'part')} put back." + (f" {failed} of them failed." if failed else ""),
    }
    for name, said in files.items():
        counts = ", ".join(f"{number:,} {what}" for what, number in said["counts"].items() if number)
        restore.report[f"files.{name}"] = {
            "label": said["label"],
            "sentence": counts or "Nothing had to be written.",
            "error": said["error"],
        }
    restore.findings = [*restore.findings, *(finding.to_dict() for finding in findings)]
    restore.save(update_fields=["report", "findings"])


def restore_undo_start(*, restore: Restore, actor: str, trigger: str = JobTrigger.SYSTEM) -> Restore:
    """Begin to take a restore back, as a job: what was here before comes back from its safety backup. Returns the new restore."""
    _refuse_second_undo(restore)
    undo = restore_plan_of_undo(restore, actor)
    title = f"Take back the restore of {restore.source}"
    try:
        with transaction.atomic():
            # Two who ask at the same moment: the row makes the second wait until the first has its job.
            Restore.objects.select_for_update().only("pk").get(pk=restore.pk)
            _refuse_second_undo(restore)
            return give_to_job(undo, "restore.undo", title, actor=actor, trigger=trigger)
    except RestoreRefused as refused:
        put_aside(undo, str(refused))
        raise


def undo_under_way(restore: Restore) -> Restore | None:
    """The restore by which this one is being taken back at this moment."""
    return restore.undone_through.filter(job__state__in=OPEN_JOB_STATES).first()


def _refuse_second_undo(restore: Restore) -> None:
    other = undo_under_way(restore)
    if other is not None:
        raise RestoreRefused(f"It is being taken back already, as {other.actor} asked for.")


def restore_plan_of_undo(restore: Restore, actor: str) -> Restore:
    """A restore of the safety backup of another, not compared yet. Raises ``RestoreRefused``."""
    if restore.state not in (RestoreState.DONE, RestoreState.RECONCILING):
        raise RestoreRefused(
            f"Only a restore that was applied can be taken back; this one is {restore.get_state_display().lower()}."
        )
    if restore.safety is None:
        raise RestoreRefused(
            "There is no safety backup of this restore: the database was empty before it, or the backup was removed."
        )
    return new_restore(actor, restore.safety, None, None, restore.kinds, restore)


def restore_undo(*, restore: Restore, actor: str, progress: Progress = silent) -> Restore:
    """Take a restore back in this process. Returns the restore that did so, done."""
    undo = restore_plan_of_undo(restore, actor)
    return finish_undo(undo, actor=actor, progress=progress)


def finish_undo(undo: Restore, *, actor: str, progress: Progress = silent, wait: float = 0.0) -> Restore:
    """Compare and apply an undo, and mark what it takes back."""
    if undo.state == RestoreState.PLANNING:
        plan_now(undo, progress=progress)
    restore_apply(restore=undo, actor=actor, progress=progress, wait=wait)
    Restore.objects.filter(undone_through=undo).update(state=RestoreState.UNDONE)
    return undo


def restore_discard(*, restore: Restore, actor: str) -> Restore:
    """Put a restore aside that was not applied. Raises ``RestoreRefused``."""
    with transaction.atomic():
        changed = Restore.objects.filter(
            pk=restore.pk, state__in=(RestoreState.PLANNING, RestoreState.PLANNED, RestoreState.FAILED)
        ).update(state=RestoreState.DISCARDED, finished_at=timezone.now())
        if not changed:
            raise RestoreRefused("It was applied already: take it back instead.")
        audit.record(actor=actor, action="restore.discarded", target=restore)
    cache.delete(f"restore-key:{restore.pk}")
    restore.refresh_from_db()
    return restore
