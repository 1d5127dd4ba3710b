"""Checks of what agents hang on: the homeserver, each backend, and that sync comes round."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

from django.utils import timezone

from agents.doctor.letta.callers import callers_of
from agents.models import SyncRun, SyncState
from agents.services.sync_pace import sync_interval
from ops.checks import service_outcome, service_targets
from ops.models import Service, ServiceStatus
from ops.registry import CheckOutcome, register_check


@register_check(
    "homeserver.reachable",
    title="The homeserver answers, accepts our token and reaches us",
    tags=["matrix"],
    interval=30,
    severity="critical",
    timeout=20,
    scope="service",
    targets=partial(service_targets, "homeserver"),
    depends_on=[
        "db.reachable",
        # Each of these says more precisely what is wrong; then this one adds nothing.
        "matrix.hs_process_down",
        "matrix.hs_url_wrong",
        "matrix.hs_unreachable",
        "matrix.login_failed",
    ],
)
def homeserver_reachable(target: str) -> CheckOutcome:
    """Red when the homeserver is down or refuses our token; a warning when it cannot reach us."""
    return service_outcome(target)


@register_check(
    "backend.reachable",
    title="The agents' server answers and accepts our credentials",
    tags=["agents"],
    interval=30,
    severity="error",
    timeout=20,
    scope="service",
    targets=partial(service_targets, "backend"),
    depends_on=[
        "db.reachable",
        # Each of these says more precisely what is wrong; then this one adds nothing.
        "net.dns",
        "net.firewall",
        "net.egress_proxy",
        "llm.unreachable",
        "letta.db_unreachable",
        "letta.endpoint_wrong",
        "llm.key_missing",
        "llm.key_invalid",
    ],
    repairs=["health.recheck"],
    covers=["letta.unreachable"],
)
def backend_reachable(target: str) -> CheckOutcome:
    """Red when a backend is down or refuses our credentials; speaks its own protocol, so that an open port alone is not green.

    The evidence names how every process of this installation reaches it: each has its own network. Where they differ,
    ``net.service_to_service`` is red.
    """
    outcome = service_outcome(target)
    callers = callers_of(target)
    return replace(outcome, evidence={**outcome.evidence, "callers": callers}) if callers else outcome


@register_check(
    "sync.recent",
    title="Agents are synced again and again",
    tags=["agents"],
    interval=60,
    severity="error",
    depends_on=["db.reachable", "worker.alive", "homeserver.reachable"],
    repairs=["sync.run"],
)
def sync_recent() -> CheckOutcome:
    """Red when no pass ended for a long time, or the last one failed. One that stopped to ask has done its work: what it asks
    is ``mapping.stale`` or ``mapping.lost``."""
    last = SyncRun.objects.exclude(state=SyncState.RUNNING).order_by("-id").first()
    if last is None:
        if not service_targets("homeserver", "backend"):
            return CheckOutcome("skip", "There is nothing to sync.")
        return CheckOutcome("warn", "No sync has ended yet.")
    evidence = {"run": last.pk, "state": last.state, "started_at": last.started_at.isoformat()}
    if last.state == SyncState.STOPPED:
        return CheckOutcome("pass", "The last sync ended; it asks for a decision before it goes on.", evidence)
    if last.state == SyncState.FAILED and Service.objects.filter(
        enabled=True, kind="homeserver", status=ServiceStatus.DOWN
    ):
        return CheckOutcome("skip", "The last sync failed since the homeserver does not answer.", evidence)
    if last.state == SyncState.FAILED:
        return CheckOutcome("fail", f"The last sync failed: {last.error}", evidence)
    if timezone.now() - last.started_at > timedelta(seconds=max(5 * sync_interval(), 120)):
        return CheckOutcome("fail", "No sync has run for a long time. Is a worker running, and beat?", evidence)
    return CheckOutcome("pass", "The last sync ended well.", evidence)
