"""What the faults share: the homeserver that is set up, and an agent on it."""

from __future__ import annotations

from typing import Any

from agents.models import Mapping
from agents.services.backends import Homeserver, NoHomeserver, open_homeserver
from agents.services.spaces import listed_mappings
from ops.doctor.faults import FaultRefused

ACTOR = "demo"
Memory = dict[str, Any]


def homeserver_here() -> Homeserver:
    """The homeserver that is set up. Raises ``FaultRefused`` without one."""
    try:
        return open_homeserver()
    except NoHomeserver as error:
        raise FaultRefused(error.sentence) from error


def first_mapping(homeserver: Homeserver) -> Mapping:
    """An agent with account and room. Raises ``FaultRefused`` when there is none yet."""
    rows = listed_mappings(homeserver).filter(account__registered_at__isnull=False)
    found = rows.select_related("agent", "account", "room").order_by("pk").first()
    if found is None:
        raise FaultRefused("No agent has a room on the homeserver yet. Sync the agents first.")
    return found


def target_of(memory: Memory) -> str:
    """The check's target: the homeserver's name."""
    return str(memory["service"])
