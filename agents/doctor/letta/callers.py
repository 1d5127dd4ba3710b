"""How the processes of this installation reach a service, each from where it runs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from ops.models import Process

ALIVE = timedelta(seconds=60)
MOST_CALLERS = 20


def callers_of(service: str) -> list[dict[str, Any]]:
    """``[{process, ok, stage, sentence, milliseconds}]`` of every living process that has asked; one query."""
    rows = Process.objects.filter(ended_at=None, seen_at__gt=timezone.now() - ALIVE).order_by("role", "name")
    found = []
    for name, role, reach in rows.values_list("name", "role", "reach")[:MOST_CALLERS]:
        told = reach.get(service) if isinstance(reach, dict) else None
        if isinstance(told, dict):
            found.append(
                {
                    "process": f"{role} {name.rpartition(':')[0] or name}",
                    "ok": bool(told.get("ok")),
                    "stage": str(told.get("stage", "")),
                    "sentence": str(told.get("sentence", ""))[:200],
                    "milliseconds": told.get("milliseconds"),
                }
            )
    return found
