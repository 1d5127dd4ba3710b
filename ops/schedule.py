"""What beat sends for the ground floor: names and intervals in seconds."""

from __future__ import annotations

from typing import Any

from django.conf import settings

# A tick that could not be taken in time is worthless: the next one is on its way.
BEAT: dict[str, dict[str, Any]] = {
    "ops.heartbeat": {"task": "ops.heartbeat", "schedule": 10.0, "options": {"expires": 30}},
    "ops.sweep_jobs": {"task": "ops.sweep_jobs", "schedule": 10.0, "options": {"expires": 30}},
    "ops.run_checks": {"task": "ops.run_checks", "schedule": 15.0, "options": {"expires": 30}},
    "ops.alerts": {"task": "ops.alerts", "schedule": 15.0, "options": {"expires": 30}},
    "ops.ping_outward": {
        "task": "ops.ping_outward",
        "schedule": float(settings.HEARTBEAT_INTERVAL),
        "options": {"expires": 30},
    },
    "ops.backups": {"task": "ops.backups", "schedule": 60.0, "options": {"expires": 55}},
    "ops.begin_histories": {"task": "ops.begin_histories", "schedule": 300.0, "options": {"expires": 250}},
    "ops.prune": {"task": "ops.prune", "schedule": 3600.0, "options": {"expires": 1800}},
}
