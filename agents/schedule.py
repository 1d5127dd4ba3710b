"""What beat runs for this app."""

from __future__ import annotations

from typing import Any

# Beat only asks whether a pass is due: the interval is a setting that changes while everything runs.
TICK_SECONDS = 5.0


def beat() -> dict[str, dict[str, Any]]:
    """Entries for Celery beat."""
    return {
        "agents.sync": {
            "task": "agents.sync_when_due",
            "schedule": TICK_SECONDS,
            "options": {"expires": TICK_SECONDS},
        },
        "agents.check_sessions": {"task": "agents.check_sessions", "schedule": 60.0, "options": {"expires": 60}},
        "agents.prune": {"task": "agents.prune", "schedule": 3600.0, "options": {"expires": 3600}},
    }
