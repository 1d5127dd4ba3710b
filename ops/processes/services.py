"""Writes about processes on behalf of others: asks them to end, settles and forgets those that are gone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from ops.leases import WORKER, LeasedWork
from ops.models import NamedLock, Process
from ops.services import audit
from ops.words import counted

KEPT = timedelta(days=14)
# So many ended processes of each role are kept for comparing starts, however old they are within ``KEPT``.
KEPT_EACH = 100
_EVICT = " (evict)"


def process_drain(*, process: Process, actor: str, evict: bool = False) -> bool:
    """Ask a process to end after its current work; it hears that within seconds. False: it was asked already, or has ended.

    ``evict``: nothing shall take its place (a process that would start itself again ends instead).
    """
    with transaction.atomic():
        asked = Process.objects.filter(pk=process.pk, ended_at=None, drain_requested_at=None).update(
            drain_requested_at=timezone.now(),
            drain_requested_by=f"{actor[: 255 - len(_EVICT)]}{_EVICT if evict else ''}",
        )
        if asked:
            audit.record(actor=actor, action="process.evict" if evict else "process.drain", target=process)
    return bool(asked)


def parse_requester(text: str) -> tuple[str, bool]:
    """Who asked a process to end, and whether it was to be evicted."""
    return text.removesuffix(_EVICT), text.endswith(_EVICT)


def process_settle(*, processes: Iterable[Process], actor: str, reason: str) -> int:
    """Write down that processes which ended without a word have been looked into; returns how many."""
    names = [row.pk for row in processes]
    with transaction.atomic():
        count = 0
        for row in Process.objects.filter(pk__in=names):
            row.ended_at = row.ended_at or row.seen_at
            row.end_reason = f"Settled: {reason}"[:500]
            row.save(update_fields=["ended_at", "end_reason"])
            count += 1
        if count:
            audit.record(
                actor=actor, action="process.settled", message=f"{counted(count, 'process', 'processes')}: {reason}"
            )
    return count


def process_unsettle(*, kept: dict[str, dict[str, str | None]], actor: str) -> None:
    """Bring back what ``process_settle`` overwrote: ``{name: {ended_at, end_reason}}``."""
    from django.utils.dateparse import parse_datetime

    with transaction.atomic():
        for name, fields in kept.items():
            ended = fields.get("ended_at")
            Process.objects.filter(pk=name).update(
                ended_at=parse_datetime(ended) if ended else None, end_reason=fields.get("end_reason") or ""
            )
        audit.record(actor=actor, action="process.unsettled", message=f"{counted(len(kept), 'process', 'processes')}")


def prune() -> int:
    """Forget processes that were last seen long ago, and all but the last hundred of each role; returns how many."""
    now = timezone.now()
    count = Process.objects.filter(seen_at__lt=now - KEPT).delete()[0]
    for role in list(Process.objects.order_by().values_list("role", flat=True).distinct()):
        kept = Process.objects.filter(role=role).order_by("-started_at").values_list("pk", flat=True)[:KEPT_EACH]
        old = Process.objects.filter(role=role, seen_at__lt=now - timedelta(hours=1)).exclude(pk__in=list(kept))
        count += old.delete()[0]
    return count


def let_go_of_everything() -> int:
    """End the leases and locks of this process, whose threads are about to be no more; returns how many.

    Fencing numbers keep it safe: whoever takes one over raises the number.
    """
    now = timezone.now()
    count = NamedLock.objects.filter(holder__startswith=f"{WORKER}/", expires_at__gt=now).update(expires_at=now)
    for model in LeasedWork.__subclasses__():
        count += model._default_manager.filter(Q(worker=WORKER) & Q(("state", "running"))).update(lease_until=now)
    return count
