"""Brings back what a backup has: the difference first, a typed word, a safety backup, and a way back."""

from __future__ import annotations

from typing import Any

from ops.backup.errors import BackupError
from ops.backup.scopes import kinds as all_kinds
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.doctor_data.lost_rows import look
from ops.models.backup import Backup
from ops.models.restore import Restore
from ops.registry import ServiceField
from ops.services import backups, restores


def plan_restore(work: RepairWork) -> Plan:
    """What the restore would change, by sort of row."""
    losses = look()
    if losses.unfinished and not work.params.get("backup"):
        one = losses.unfinished[0]
        return Plan(
            f"The restore of {one.source} is finished: its files are put back, and rooms and agents are brought together with the outside.",
            (Change(f"restore:{one.pk}", "state", before=one.get_state_display(), after="Done"),),
            data={"go_on": str(one.pk)},
        )
    named = str(work.params.get("backup") or "").strip()
    if not named and not losses.lost:
        return Plan("Nothing is missing. To go back to a backup all the same, name it.")
    backup = _backup(named) if named else losses.backup
    if backup is None:
        raise RepairRefused("There is no backup that could be restored.")
    kinds = _kinds(str(work.params.get("parts") or "")) or ([] if named else losses.kinds)
    try:
        planned = restores.restore_plan(backup=backup, kinds=kinds, actor=work.actor, progress=work.progress)
        restores.restore_discard(restore=planned, actor=work.actor)
    except BackupError as error:
        raise RepairRefused(str(error)) from error
    changes = tuple(
        Change(
            f"kind:{one['kind']}",
            one["label"],
            before=f"{one['same'] + one['changed'] + one['removed'] + one['kept']:,} rows",
            after=f"{one['added']:,} come back, {one['changed']:,} change, {one['removed']:,} go",
        )
        for one in planned.plan["models"]
        if one["added"] or one["changed"] or one["removed"]
    )
    what = ", ".join(kinds) if kinds else "everything"
    return Plan(
        f"{what.capitalize()} as in {backup.name}, of {backup.made_at:%Y-%m-%d %H:%M} UTC. A backup of what is here is made before.",
        changes,
        data={"backup": str(backup.pk), "kinds": kinds},
    )


def apply_restore(work: RepairWork) -> dict[str, Any]:
    """Compare anew, apply."""
    data = work.plan.data
    try:
        if "go_on" in data:
            row = Restore.objects.get(pk=data["go_on"])
            done = restores.restore_apply(restore=row, actor=work.actor, progress=work.progress)
            return {"restore": str(done.pk)}
        backup = Backup.objects.filter(pk=data["backup"]).first()
        planned = restores.restore_plan(backup=backup, kinds=data["kinds"], actor=work.actor, progress=work.progress)
        work.remember(restore=str(planned.pk))
        done = restores.restore_apply(restore=planned, actor=work.actor, progress=work.progress)
    except BackupError as error:
        raise RepairFailed(str(error)) from error
    return {"restore": str(done.pk), "changed": done.report.get("rows", {}).get("sentence", "")}


def undo_restore(work: RepairWork) -> None:
    """Back to the safety backup."""
    row = Restore.objects.filter(pk=str(work.snapshot["restore"])).first() if "restore" in work.snapshot else None
    if row is None:
        raise RepairFailed("What was finished here was begun elsewhere: take it back on the page of restores.")
    try:
        restores.restore_undo(restore=row, actor=work.actor)
    except BackupError as error:
        raise RepairFailed(str(error)) from error


def _backup(name: str) -> Backup:
    found = Backup.objects.filter(name=name.removesuffix(".sbk")).first()
    if found is None:
        newest = backups.newest()
        raise RepairRefused(f"There is no backup {name!r}." + (f" The newest is {newest.name}." if newest else ""))
    return found


def _kinds(text: str) -> list[str]:
    wanted = [word.strip() for word in text.split(",") if word.strip()]
    known = [kind.name for kind in all_kinds()]
    if unknown := [word for word in wanted if word not in known]:
        raise RepairRefused(f"There is no part {unknown[0]!r}; choose among {', '.join(known)}.")
    return wanted


register_repair(
    "recovery.restore",
    title="Restore from a backup",
    repair_class="D",
    button="Restore…",
    explain="Shows what a backup would change, makes a backup of what is here, and brings back what is missing in one transaction.",
    plan=plan_restore,
    apply=apply_restore,
    undo=undo_restore,
    fields=(
        ServiceField("backup", "Backup", help="Its name. Empty: the last one that is known to restore."),
        ServiceField(
            "parts", "Parts", help="Separated by commas; empty: what is missing, or all of a backup that is named."
        ),
    ),
    long=True,
    confirm_word=lambda work: "restore",
)
