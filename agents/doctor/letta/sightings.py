"""Errors of a Letta server that nothing has overtaken yet."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from agents.doctor.letta.process import ServerProcess
from agents.services.troubles import answered_since
from ops.models import Service, Sighting

WITHIN = timedelta(hours=6)
_MOST = 200


def standing(service: Service, kind: str, process: ServerProcess | None) -> list[Sighting]:
    """Sightings of a kind since which the agent gave no good answer and the server was not restarted."""
    rows = list(
        Sighting.objects.filter(service=service.name, kind=kind, settled_at=None, last_at__gt=timezone.now() - WITHIN)[
            :_MOST
        ]
    )
    if not rows:
        return []
    keys = [int(row.agent.rpartition(":")[2] or 0) for row in rows]
    good = answered_since(keys, min(row.last_at for row in rows))
    started = process.started_at if process is not None else 0.0
    return [
        row
        for row, key in zip(rows, keys, strict=True)
        if row.last_at.timestamp() > started and not (key in good and good[key] > row.last_at)
    ]
