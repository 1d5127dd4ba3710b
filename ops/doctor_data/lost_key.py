"""``secrets.readable``: every stored secret can be opened. ``secrets.lost_key`` takes away those that cannot, and says what to enter again."""

from __future__ import annotations

from typing import Any

from cryptography.fernet import Fernet
from django.db import transaction

from ops.doctor.faults import register_fault
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.losses import Loss, clear, losses, put_back, some_loss
from ops.models import ObjectVersion
from ops.registry import CheckOutcome, Fix, ServiceField, register_check
from ops.secrets import MARK
from ops.services.audit import record
from ops.words import counted

CHECK, REPAIR, WORD = "secrets.readable", "secrets.lost_key", "lost"


@register_check(
    CHECK,
    title="Every stored secret can be opened",
    tags=("data", "start"),
    interval=600,
    severity="critical",
    depends_on=("db.reachable",),
    repairs=(REPAIR,),
)
def readable() -> CheckOutcome:
    """Opens the newest secrets of every kind. A key that was replaced instead of put in front of the others makes them unreadable."""
    found = some_loss()
    if not found:
        return CheckOutcome("pass", "The secrets of every kind can be opened.", {"unreadable": {}})
    what = ", ".join(f"{what} ({count})" for what, count in found.items())
    return CheckOutcome(
        "fail",
        f"Some secrets were written with a key that FIELD_ENCRYPTION_KEYS lacks: {what}. Put the old key back behind the newest one; if it "
        "is lost, see what is lost with it.",
        {"unreadable": found},
        fix=Fix(REPAIR),
    )


def plan(work: RepairWork) -> Plan:
    """Names what cannot be opened, and what has to be entered again for each."""
    found = losses()
    if not found:
        return Plan("Every stored secret can be opened.")
    return Plan(sentence_of(found), tuple(_changes(found)))


def sentence_of(found: list[Loss]) -> str:
    """What is lost, in a sentence."""
    total = sum(len(loss.keys) for loss in found)
    again = sum(len(loss.keys) for loss in found if loss.kind.matters)
    return (
        f"{counted(total, 'secret')} cannot be opened with the present keys and would be taken away, after a backup; "
        f"{again or 'none'} of them {'has' if again == 1 else 'have'} to be entered again. Everything else works on. If the old key turns up: "
        "put it back and undo this."
    )


def _changes(found: list[Loss]) -> list[Change]:
    lines: list[Change] = []
    for loss in found:
        if loss.kind.matters:
            lines += [Change(name, loss.kind.what, "cannot be opened", loss.kind.advice) for name in loss.names]
        rest = len(loss.keys) - (len(loss.names) if loss.kind.matters else 0)
        if rest:
            lines.append(Change(loss.kind.label, loss.kind.what, f"{rest:,} that cannot be opened", loss.kind.advice))
    return lines


def apply(work: RepairWork) -> dict[str, Any]:
    """A backup first; then every lost secret is taken away, and kept as it is stored for the day on which the key turns up."""
    if work.params.get("backup", True):
        _back_up(work)
    with transaction.atomic():
        found = losses()
        kept = [clear(loss, actor=work.actor) for loss in found]
        work.remember(kept=kept)
        record(
            actor=work.actor,
            action="secrets.given_up",
            message=sentence_of(found),
            after={loss.kind.label: list(loss.names)[:50] for loss in found},
        )
    return {"given_up": {loss.kind.label: len(loss.keys) for loss in found}, "enter_again": advice_of(found)}


def advice_of(found: list[Loss]) -> list[str]:
    """What to do for each kind that matters, with the names."""
    lines = []
    for loss in found:
        if loss.kind.matters:
            more = len(loss.keys) - len(loss.names)
            names = ", ".join(loss.names) + (f" and {more:,} more" if more else "")
            lines.append(f"{loss.kind.what[0].upper()}{loss.kind.what[1:]} ({names}): {loss.kind.advice}")
    return lines


def _back_up(work: RepairWork) -> None:
    from ops.backup.errors import BackupError
    from ops.services.backups import backup_now

    try:
        backup = backup_now(actor=work.actor, reason="safety", note="Before lost secrets are taken away.", pinned=True)
    except BackupError as error:
        raise RepairFailed(
            f"The backup before it could not be made: {error} Nothing was taken away. Mend that, or go on without one (backup=no)."
        ) from error
    work.remember(backup=backup.name)


def undo(work: RepairWork) -> None:
    """Put back what was taken away, where nothing was entered meanwhile. Worth it only with the old key."""
    kept = work.snapshot.get("kept") or []
    with transaction.atomic():
        count = sum(put_back(one) for one in kept)
        if kept and not count:
            raise RepairRefused("Everything was entered again meanwhile; there is nothing to put back.")
        record(actor=work.actor, action="secrets.put_back", message=f"{counted(count, 'secret')} put back.")


register_repair(
    REPAIR,
    title="Give up secrets whose key is lost",
    repair_class="D",
    button="Show what is lost",
    explain="Names every secret that cannot be opened with the present keys, makes a backup, takes them away so that nothing stumbles over "
    "them, and says what has to be entered again. Can be undone when the old key turns up.",
    plan=plan,
    apply=apply,
    undo=undo,
    fields=(ServiceField("backup", "Make a backup first", kind="bool", default=True),),
    long=True,
    confirm_word=lambda work: WORD,
)


def _foreign_secret() -> dict[str, Any]:
    """An earlier version of something, sealed with a key that nobody has."""
    row = ObjectVersion.objects.create(
        model="practice.secret", object_id="1", label="Practice", actor="fault", action="fault"
    )
    sealed = MARK + Fernet(Fernet.generate_key()).encrypt(b'{"token": "x"}').decode()
    from ops.secrets import Sealed

    row.secret = Sealed(sealed)
    row.save(update_fields=["secret"])
    return {"row": row.pk}


register_fault(
    CHECK,
    title="A secret whose key is lost",
    cause=_foreign_secret,
    heal=lambda memory: (ObjectVersion.objects.filter(pk=memory["row"]).delete(), None)[1],
    repair=REPAIR,
    repair_params=lambda memory: {"backup": False},
    evidence=("unreadable",),
)
