"""What beat runs for this app."""

from __future__ import annotations

from typing import Any


def beat() -> dict[str, dict[str, Any]]:
    """Entries for Celery beat."""
    from django.conf import settings

    every = max(5.0, float(settings.SYNC_INTERVAL))
    return {
        "agents.sync": {"task": "agents.sync", "schedule": every, "options": {"expires": every}},
        "agents.prune": {"task": "agents.prune", "schedule": 3600.0, "options": {"expires": 3600}},
    }
