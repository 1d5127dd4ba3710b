"""First versions of objects that were there before their history was, or came in bulk: written little by little, beside everything else."""

from __future__ import annotations

import threading
from typing import Any

from django.db import models, transaction
from django.db.models import CharField, Exists, OuterRef
from django.db.models.functions import Cast

from ops.history.registry import Versioned, versioned_kinds
from ops.history.writing import write_began
from ops.models import ObjectVersion

AT_ONCE = 5000
_PORTION = 500

# Up to which number the objects of a kind were looked through by this process; what is above is new.
_seen: dict[str, int] = {}
_lock = threading.Lock()


def begin_histories(*, most: int = AT_ONCE) -> int:
    """Write first versions of at most ``most`` objects that have none; returns of how many. Cheap when there is nothing to write."""
    count = 0
    for kind in versioned_kinds():
        if kind.model is None:
            continue
        while count < most:
            keys = _without(kind, min(_PORTION, most - count))
            if not keys:
                break
            with transaction.atomic():
                # Somebody may have changed one of them just now.
                known = set(
                    ObjectVersion.objects.filter(model=kind.name, object_id__in=[str(key) for key in keys]).values_list(
                        "object_id", flat=True
                    )
                )
                count += write_began(kind, [key for key in keys if str(key) not in known])
    return count


def forget() -> None:
    """Look through everything at the next call."""
    with _lock:
        _seen.clear()


def _without(kind: Versioned, most: int) -> list[Any]:
    """Keys of objects without a version, by number, from where this process has not looked yet."""
    assert kind.model is not None
    version = ObjectVersion.objects.filter(model=kind.name, object_id=OuterRef("as_text"))
    rows = kind.model._base_manager.annotate(as_text=Cast("pk", CharField())).order_by("pk")
    numbered = isinstance(kind.model._meta.pk, models.AutoField)
    newest = None
    if numbered:
        # Asked before looking: what comes meanwhile is above it.
        newest = rows.order_by("-pk").values_list("pk", flat=True).first() or 0
        rows = rows.filter(pk__gt=_seen.get(kind.name, 0), pk__lte=newest)
    found = list(rows.filter(~Exists(version)).values_list("pk", flat=True)[:most])
    if numbered and len(found) < most:
        with _lock:
            _seen[kind.name] = newest or 0
    return found
