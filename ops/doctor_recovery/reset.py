"""``recovery.reset``: a reset after which not everything was found again. The repair finishes it, or does one safely from the beginning."""

from __future__ import annotations

from typing import Any

from ops.backup.errors import BackupError
from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.registry import CheckOutcome, Fix, ServiceField, register_check
from ops.resets import reset_names, reset_scopes
from ops.services.resets import (
    ResetRefused,
    last_reset,
    open_reset,
    reset_finish,
    reset_now,
    reset_plan,
    reset_undo,
    under_way,
    word_for,
)
from ops.words import counted

CHECK = "recovery.reset"
FINISH = "finish reset"


@register_check(
    CHECK,
    title="No reset is left half done",
    tags=("data", "recovery"),
    interval=60,
    severity="error",
    depends_on=("db.reachable",),
    repairs=("recovery.reset",),
)
def reset_check() -> CheckOutcome:
    """Red when rows were removed by a reset and what the homeserver has was not found again since: its rooms are orphans, and the next
    syncs would stop, or make rooms a second time."""
    note = open_reset()
    if note is None:
        last = last_reset()
        told = f" The last one was {last['at'][:16].replace('T', ' ')} UTC." if last else ""
        return CheckOutcome("pass", f"No reset waits to be finished.{told}")
    evidence = {name: note.get(name) for name in ("scopes", "at", "backup", "actor", "left", "outside")}
    if under_way():
        return CheckOutcome("pass", "A reset works at this moment.", evidence)
    left = list(note.get("left") or ())
    what = f" {left[0]}" if left else " Its process ended in between."
    more = f" {counted(len(left) - 1, 'more')} of the kind." if len(left) > 1 else ""
    outside = int(note.get("outside") or 0)
    orphans = f" {counted(outside, 'room')} of the homeserver would be orphans." if outside else ""
    return CheckOutcome(
        "fail",
        f"The reset of {', '.join(note['scopes'])} of {note['at'][:16].replace('T', ' ')} UTC removed rows, and not everything was found "
        f"again.{orphans}{what}{more} Finish it, or take it back from the backup {note['backup']}.",
        evidence,
        fix=Fix("recovery.reset"),
    )


def _names(work: RepairWork) -> list[str]:
    return [name.strip() for name in str(work.params.get("only") or "").split(",") if name.strip()]


def plan(work: RepairWork) -> Plan:
    """With a scope: how many rows of what would go, and what stays outside. Without: what is left of an earlier one."""
    names = _names(work)
    if names:
        try:
            found = reset_plan(scopes=names)
        except ValueError as error:
            raise RepairRefused(str(error)) from error
        if found.refused:
            raise RepairRefused(found.refused)
        told = " ".join(finding.sentence for finding in found.outside)
        first = f" Try first: {found.instead[0]['command']}." if found.instead else ""
        return Plan(
            f"{counted(found.rows, 'row')} would go. {told}{first} {found.backup}"[:1000],
            tuple(Change(line["model"], line["label"], before=line["count"], after=0) for line in found.lines),
            {"scopes": names},
        )
    note = open_reset()
    if note is None:
        return Plan(f"No reset waits to be finished. To begin one, say what: {', '.join(reset_names())}.")
    labels = {scope.name: scope.label for scope in reset_scopes()}
    return Plan(
        "Accounts and rooms are looked for on the homeserver, and become the agents' again. Nothing is made there.",
        tuple(
            Change(f"reset:{name}", labels.get(name, name), before="removed, not found again", after="found again")
            for name in note["scopes"]
        ),
        {"finish": True, "scopes": note["scopes"]},
        {"backup": note["backup"], "scopes": note["scopes"]},
    )


def apply(work: RepairWork) -> dict[str, Any]:
    """Finish, or backup, removal and finding again."""
    try:
        if work.plan.data.get("finish"):
            done = reset_finish(actor=work.actor, progress=work.progress)
        else:
            names = work.plan.data["scopes"]
            done = reset_now(scopes=names, typed=word_for(names), actor=work.actor, progress=work.progress)
            work.remember(backup=done["backup"], scopes=names)
    except (ResetRefused, BackupError) as error:
        raise RepairFailed(str(error)) from error
    # What is left keeps the check red, which says so; taking back what could be done would help nobody.
    return {name: done[name] for name in ("scopes", "backup", "left")}


def undo(work: RepairWork) -> None:
    """The backup from before the removal, that part of it."""
    kept = work.snapshot
    try:
        reset_undo(backup=str(kept.get("backup") or ""), scopes=list(kept.get("scopes") or ()), actor=work.actor)
    except (ResetRefused, BackupError) as error:
        raise RepairRefused(str(error)) from error


register_repair(
    "recovery.reset",
    title="Begin anew with a part",
    repair_class="D",
    button="Show what would go",
    explain="Removes mappings, conversations, people or settings after a backup that was read to its end. Rooms and accounts are found again on "
    "the homeserver and never made twice. Undoing restores the backup. Left empty, it finishes a reset that was cut short.",
    plan=plan,
    apply=apply,
    undo=undo,
    fields=(
        ServiceField("only", "What", "mappings, conversations, people, settings or all; empty: finish an earlier one."),
    ),
    long=True,
    confirm_word=lambda work: word_for(_names(work)) if _names(work) else FINISH,
)


@register_guide(CHECK)
def guide(target: str, evidence: dict[str, Any]) -> Guide:
    """The same at a terminal."""
    backup = str(evidence.get("backup") or "NAME")
    return Guide(
        "Finish the reset, or take it back",
        "Rows were removed, and what they were about lies outside without anybody here knowing. Either is safe; no room is made twice.",
        (
            GuideStep("See what is left, and what the homeserver has.", "python manage.py reset\npython manage.py rebuild_mappings --dry-run"),
            GuideStep("Find it again.", "python manage.py reset --finish"),
            GuideStep("Or take the reset back.", f"python manage.py reset --undo\n# the same: python manage.py restore {backup}"),
        ),
    )  # fmt: skip
