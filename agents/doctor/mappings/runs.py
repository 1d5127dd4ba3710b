"""What the last passes of sync found, service by service: what the checks of sync judge by."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from agents.models import SyncRun, SyncState
from agents.services.backends import backend_services

# So far back a pass of a service is looked for.
LOOKED_AT = 60


class Pass(NamedTuple):
    """One finished pass as one service sees it: the findings about that service, and those about none."""

    pk: int
    state: str
    started_at: datetime
    findings: list[dict[str, Any]]


def passes(most: int = 1) -> dict[str, list[Pass]]:
    """The newest finished passes of each enabled backend by its name, newest first. Three queries."""
    names = [service.name for service in backend_services()]
    found: dict[str, list[Pass]] = {name: [] for name in names}
    runs = SyncRun.objects.exclude(state=SyncState.RUNNING).order_by("-id")
    for pk, state, started, service, findings in runs.values_list(
        "pk", "state", "started_at", "service_name", "findings"
    )[:LOOKED_AT]:
        for name in names:
            if service in ("", name) and len(found[name]) < most:
                own = [one for one in findings or [] if isinstance(one, dict) and one.get("target") in (name, "", None)]
                found[name].append(Pass(pk, state, started, own))
    return found


def last_runs() -> dict[str, Pass]:
    """The newest finished pass of each enabled backend that has had one."""
    return {name: found[0] for name, found in passes().items() if found}
