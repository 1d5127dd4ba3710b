"""Checks of what agents hang on: the homeserver, each backend, and that sync comes round."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from agents.backends.registry import BACKENDS
from agents.models import SyncRun, SyncState
from agents.services.backends import HOMESERVER_KIND, homeserver_service
from ops.models import Service
from ops.registry import CheckOutcome, register_check
from ops.services.services import service_test


def _backends() -> list[str]:
    return list(Service.objects.filter(enabled=True, kind__in=list(BACKENDS)).values_list("name", flat=True))


def _homeservers() -> list[str]:
    return list(Service.objects.filter(enabled=True, kind=HOMESERVER_KIND).values_list("name", flat=True))


def _outcome(name: str) -> CheckOutcome:
    service = Service.objects.filter(name=name).first()
    if service is None:
        return CheckOutcome("skip", f"There is no service {name} any more.")
    result = service_test(service=service, actor="check")
    status = {"ok": "pass", "degraded": "warn", "down": "fail"}[result.status]
    return CheckOutcome(status, result.sentence, {"address": service.base_url, "version": result.version})  # type: ignore[arg-type]


@register_check(
    "homeserver.reachable",
    title="The homeserver answers, accepts our token and reaches us",
    tags=["matrix"],
    interval=30,
    severity="critical",
    timeout=20,
    scope="service",
    targets=_homeservers,
    depends_on=["db.reachable"],
)
def homeserver_reachable(target: str) -> CheckOutcome:
    """Red when the homeserver is down or refuses our token; a warning when it cannot reach us."""
    return _outcome(target)


@register_check(
    "backend.reachable",
    title="The agents' server answers and accepts our credentials",
    tags=["agents"],
    interval=30,
    severity="error",
    timeout=20,
    scope="service",
    targets=_backends,
    depends_on=["db.reachable"],
)
def backend_reachable(target: str) -> CheckOutcome:
    """Red when a backend is down or refuses our credentials."""
    return _outcome(target)


@register_check(
    "sync.recent",
    title="Agents are synced again and again",
    tags=["agents"],
    interval=60,
    severity="error",
    depends_on=["db.reachable", "worker.alive"],
)
def sync_recent() -> CheckOutcome:
    """Red when no pass ended for a long time, or the last one stopped to ask."""
    last = SyncRun.objects.exclude(state=SyncState.RUNNING).order_by("-id").first()
    if last is None:
        if homeserver_service() is None and not _backends():
            return CheckOutcome("skip", "There is nothing to sync.")
        return CheckOutcome("warn", "No sync has ended yet.")
    evidence = {"run": last.pk, "state": last.state, "started_at": last.started_at.isoformat()}
    if last.state == SyncState.STOPPED:
        return CheckOutcome("warn", "The last sync stopped and asks: too many agents would be archived.", evidence)
    if last.state == SyncState.FAILED:
        return CheckOutcome("fail", f"The last sync failed: {last.error}", evidence)
    if timezone.now() - last.started_at > timedelta(seconds=max(5 * settings.SYNC_INTERVAL, 120)):
        return CheckOutcome("fail", "No sync has run for a long time. Is a worker running, and beat?", evidence)
    return CheckOutcome("pass", "The last sync ended well.", evidence)
