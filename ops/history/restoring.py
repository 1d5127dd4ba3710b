"""Histories across a restore: no object gets the number of one that has a history, and what a restore changed is a version too."""

from __future__ import annotations

from typing import Any

from django.db import connections, models, transaction

from ops.backup.hooks import Fence, Reconcile, register_fence, register_reconcile
from ops.history.registry import Versioned, versioned_kinds
from ops.history.writing import Deed, write_found
from ops.models import ObjectVersion
from ops.words import counted

RESTORED = "history.restored"
_PORTION = 500


def pass_over(fence: Fence) -> None:
    """On an empty machine the next object of a kind gets a number beyond all that have a history, those that were deleted too."""
    if not fence.fresh:
        return
    connection = connections[fence.alias]
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        for kind in versioned_kinds():
            key = kind.model._meta.pk if kind.model is not None else None
            if kind.model is None or not isinstance(key, models.AutoField):
                continue
            table, column = kind.model._meta.db_table, str(key.column)
            keys = ObjectVersion.objects.using(fence.alias).filter(model=kind.name).values_list("object_id", flat=True)
            highest = max((int(one) for one in keys.distinct().iterator() if one.isdecimal()), default=0)
            # Names come from the model, never from input.
            cursor.execute(f"SELECT COALESCE(MAX({quote(column)}), 0) FROM {quote(table)}")  # noqa: S608
            beyond = max(highest, int(cursor.fetchone()[0]))
            if not beyond:
                continue
            if connection.vendor == "postgresql":
                cursor.execute("SELECT pg_get_serial_sequence(%s, %s)", [quote(table), column])
                sequence = cursor.fetchone()[0]
                last = f"(SELECT last_value FROM {sequence})"  # noqa: S608
                cursor.execute(f"SELECT setval(%s, GREATEST(%s, {last}))", [sequence, beyond])
            else:
                cursor.execute("UPDATE sqlite_sequence SET seq = MAX(seq, %s) WHERE name = %s", [beyond, table])
                if not cursor.rowcount:
                    cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (%s, %s)", [table, beyond])


def note(work: Reconcile) -> dict[str, Any]:
    """What differs from its newest version since the restore gets one, and what a restore took away is deleted in its history.

    Returns ``{"sentence", "versions"}``. May be done again.
    """
    deed = Deed(work.actor, RESTORED, f"A backup of {work.cut_at:%Y-%m-%d %H:%M} UTC was restored.")
    count = 0
    for kind in versioned_kinds():
        if kind.model is not None:
            work.progress(f"What objects were: {kind.label}")
            count += _present(kind, deed) + _gone(kind, deed)
    what = counted(count, "object differs", "objects differ")
    return {"sentence": f"{what} from what was last noted of them; their histories say so.", "versions": count}


def _present(kind: Versioned, deed: Deed) -> int:
    assert kind.model is not None
    count, last = 0, None
    while True:
        rows = kind.model._base_manager.order_by("pk")
        if last is not None:
            rows = rows.filter(pk__gt=last)
        keys = list(rows.values_list("pk", flat=True)[:_PORTION])
        if not keys:
            return count
        last = keys[-1]
        with transaction.atomic():
            count += write_found(kind, [str(key) for key in keys], deed)


def _gone(kind: Versioned, deed: Deed) -> int:
    """Objects whose newest version says that they are, and that are not."""
    assert kind.model is not None
    key_field = kind.model._meta.pk
    assert key_field is not None
    count, last = 0, ""
    while True:
        found = ObjectVersion.objects.filter(model=kind.name, object_id__gt=last).order_by("object_id")
        keys = list(found.values_list("object_id", flat=True).distinct()[:_PORTION])
        if not keys:
            return count
        last = keys[-1]
        usable = {one: key_field.to_python(one) for one in keys}
        there = {str(pk) for pk in kind.model._base_manager.filter(pk__in=usable.values()).values_list("pk", flat=True)}
        gone = [key for key in keys if key not in there]
        with transaction.atomic():
            count += write_found(kind, gone, deed, gone=True)


register_fence("histories", pass_over)
register_reconcile("Histories", note)
