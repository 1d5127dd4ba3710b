"""What beat runs for this app."""

from __future__ import annotations

from typing import Any


def beat() -> dict[str, dict[str, Any]]:
    """Entries for Celery beat; tasks expire so that a worker that was away does not find a heap of them."""
    from django.conf import settings

    every = 1.0 if settings.EMBEDDED else 3.0
    return {
        "chat.sweep": {"task": "chat.sweep", "schedule": every, "options": {"expires": every * 3}},
        "chat.catch_up": {"task": "chat.catch_up", "schedule": 30.0, "options": {"expires": 60}},
        "chat.prune_portal": {"task": "chat.prune_portal", "schedule": 1800.0, "options": {"expires": 1800}},
        "chat.reset_mails": {"task": "chat.reset_mails", "schedule": 30.0, "options": {"expires": 60}},
        "chat.prune": {"task": "chat.prune", "schedule": 3600.0, "options": {"expires": 3600}},
    }
