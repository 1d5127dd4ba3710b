"""Counts what goes wrong with outside servers, by the hour. Costs nothing while all is well: only failures are written."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from ops.logs import get_logger
from ops.models import Sighting
from ops.redaction import redact_text
from ops.services import audit

logger = get_logger(__name__)

KEPT = timedelta(days=14)


def sighting_count(
    *,
    service: str,
    kind: str,
    label: str = "",
    agent: str = "",
    sample: str = "",
    until: datetime | None = None,
    times: int = 1,
) -> None:
    """Count one more. Never raises: a counter must not make a failure worse. Safe to be called by many processes at once.

    After ``sightings_settle`` the count of the hour begins anew.
    """
    now = timezone.now()
    place = {
        "service": service[:64],
        "kind": kind[:40],
        "label": label[:150],
        "agent": agent[:60],
        "hour": now.replace(minute=0, second=0, microsecond=0),
    }
    said = " ".join(redact_text(sample).split())[:500]
    seen: dict[str, Any] = {"last_at": now, "until": until, "sample": said}
    try:
        with transaction.atomic():
            if Sighting.objects.filter(**place, settled_at=None).update(**seen, count=F("count") + times):
                return
            fresh = {**seen, "count": times, "first_at": now, "settled_at": None}
            if Sighting.objects.filter(**place).exclude(settled_at=None).update(**fresh):
                return
            try:
                with transaction.atomic():
                    Sighting.objects.create(**place, **fresh)
            except IntegrityError:
                # Another worker made the row of this hour at the same moment.
                Sighting.objects.filter(**place).update(**seen, count=F("count") + times)
    except Exception:
        logger.exception("sighting_not_counted", service=service, kind=kind)


def sightings_settle(
    *, service: str, kinds: Sequence[str], actor: str, agents: Sequence[str] = (), note: str = ""
) -> list[int]:
    """What was counted so far counts no longer, because something was done about it. Returns the rows, for undoing."""
    with transaction.atomic():
        rows = Sighting.objects.filter(service=service, kind__in=kinds, settled_at=None)
        if agents:
            rows = rows.filter(agent__in=agents)
        keys = list(rows.values_list("pk", flat=True))
        if keys:
            Sighting.objects.filter(pk__in=keys).update(settled_at=timezone.now())
            audit.record(
                actor=actor,
                action="sightings.settled",
                target=f"service:{service}",
                message=note,
                after={"kinds": list(kinds), "rows": len(keys)},
            )
    return keys


def sightings_reopen(*, rows: Sequence[int], actor: str) -> int:
    """Let settled ones count again. Returns how many."""
    with transaction.atomic():
        changed = Sighting.objects.filter(pk__in=list(rows)).exclude(settled_at=None).update(settled_at=None)
        if changed:
            audit.record(actor=actor, action="sightings.reopened", after={"rows": changed})
    return changed


def prune() -> int:
    """Forget old counters. Returns how many rows went."""
    return Sighting.objects.filter(last_at__lt=timezone.now() - KEPT).delete()[0]
