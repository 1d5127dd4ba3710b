"""What mends backups: making one and trying it, bringing copies there again; and how somebody gets a key."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from ops.backup.errors import BackupError
from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.doctor_data import backup as checks
from ops.models.backup import BackupState, DrillState
from ops.services import backups
from ops.services.backup_copies import copies_store, copies_wanted
from ops.words import counted


def plan_create(work: RepairWork) -> Plan:
    """A new one, when something is wrong with those that there are."""
    state = checks.look()
    wrong = [*state.problems, *state.doubts]
    if not wrong:
        return Plan(f"Nothing is wrong: {state.well} Another one can be made on the page of backups.")
    if backups.running():
        raise RepairRefused("A backup is being made at the moment. Wait for its end, then look again.")
    newest = backups.newest()
    return Plan(
        "A backup is made now, read back, restored into a scratch place to see that it works, and copied to every destination.",
        (
            Change("backups", "newest", before=newest.name if newest else None, after="one from now"),
            Change("backups", "known to restore", before=state.evidence["good"], after="the new one"),
        ),
    )


def apply_create(work: RepairWork) -> dict[str, Any]:
    """Make it, then drill it."""
    from ops.services.drills import drill_now

    try:
        backup = backups.backup_now(actor=work.actor, note="Made by the repair", progress=work.progress)
        work.progress(0, 0, "Restoring it into a scratch place")
        drill = drill_now(backup=backup, actor=work.actor, progress=work.progress)
    except BackupError as error:
        raise RepairFailed(str(error)) from error
    if drill.state != DrillState.PASSED:
        raise RepairFailed(f"The backup {backup.name} was made, and does not restore: {drill.error}")
    everywhere = backup.state == BackupState.COMPLETE
    return {"backup": backup.name, "rows": drill.rows, "size": backup.size, "everywhere": everywhere}


register_repair(
    "backup.create",
    title="Make a backup, and prove that it restores",
    repair_class="A",
    button="Back up now",
    explain="A backup is made, read back, restored into a scratch place, and copied to every destination. Nothing that is there is changed.",
    plan=plan_create,
    apply=apply_create,
    long=True,
)


def plan_copy(work: RepairWork) -> Plan:
    """Which copies are brought where."""
    found = checks.absent()
    if not found:
        return Plan("Every destination has what it should.")
    return Plan(
        f"{counted(len(found), 'copy is', 'copies are')} brought to where they should be.",
        tuple(
            Change(
                f"destination {one.destination.name}", one.backup.name, before=one.get_state_display(), after="stored"
            )
            for one in found
        ),
        data={"backups": sorted({str(one.backup_id) for one in found})},
    )


def apply_copy(work: RepairWork) -> dict[str, Any]:
    """One backup after another."""
    from ops.models.backup import Backup

    missing: list[str] = []
    rows = Backup.objects.filter(pk__in=work.plan.data["backups"])
    for number, row in enumerate(rows):
        work.progress(number, len(rows), row.name)
        copies_wanted(row)
        if not copies_store(backup=row, actor=work.actor, progress=work.progress):
            missing += [f"{copy.destination.name}: {copy.error}" for copy in row.copies.exclude(error="")]
    if missing:
        raise RepairFailed(f"Not every destination took its copy. {missing[0]}")
    return {"backups": len(rows)}


register_repair(
    "backup.copy",
    title="Bring copies of backups to their destinations",
    repair_class="A",
    button="Bring them there",
    explain="What a destination should have and has not is copied there again, from a copy that is well.",
    plan=plan_copy,
    apply=apply_copy,
    long=True,
)


@register_guide(checks.KEYS)
def guide_keys(target: str, evidence: dict[str, Any]) -> Guide:
    """Only a person can keep a key."""
    return Guide(
        "Keep a key that opens the backups",
        "Every backup is encrypted. This machine opens its own; when it is lost, a recovery key is the only thing that does. It is shown once.",
        (
            GuideStep("Make one, and type it back when asked.", f"cd '{settings.BASE_DIR}'\npython manage.py backup key new 'safe in the office'"),
            GuideStep("Write it on paper, or put it into a password store that does not lie on this machine. A second person with a key of their own is better still."),
            GuideStep("Make a backup with it: older ones it does not open.", "python manage.py backup create --drill"),
        ),
    )  # fmt: skip


@register_guide(checks.STALE)
def guide_stale(target: str, evidence: dict[str, Any]) -> Guide:
    """When making one fails."""
    return Guide(
        "Get a backup that restores",
        "The repair makes one and tries it. When that fails, it says why; the usual reasons are these.",
        (
            GuideStep("Make one by hand and read what it says.", "python manage.py backup create --drill"),
            GuideStep("There is no room: make some, or keep fewer.", "python manage.py repair disk.cleanup\npython manage.py backup prune --dry-run"),
            GuideStep("The plan is switched off, or no worker runs.", "python manage.py backup plan --on\npython manage.py doctor worker.alive"),
            GuideStep("Copies do not arrive: try the destination.", "python manage.py backup destination\npython manage.py backup destination test NAME"),
        ),
    )  # fmt: skip


@register_guide(checks.COPIES)
def guide_copies(target: str, evidence: dict[str, Any]) -> Guide:
    """For a place that is gone or takes nothing."""
    names = [one["destination"] for one in evidence.get("absent", [])] or ["NAME"]
    return Guide(
        "Have every destination take its copies",
        "The repair brings them again. A place that takes nothing has to be mended where it is.",
        (
            GuideStep("Write, read back and remove a small file there: it says what is wrong.", f"python manage.py backup destination test '{names[0]}'"),
            GuideStep("A folder of another disk has to be mounted, and writable for us.", "df -h\nmount"),
            GuideStep("New credentials for S3.", f"python manage.py backup destination set '{names[0]}' --access-key KEY"),
            GuideStep("A place that is not used any more is switched off.", f"python manage.py backup destination off '{names[0]}'"),
        ),
    )  # fmt: skip
