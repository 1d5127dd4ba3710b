"""Health for machines: is the process up, may it get traffic, and the numbers."""

from __future__ import annotations

import hmac
import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client.exposition import choose_encoder

from ops.logs import get_logger
from ops.words import counted

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing that readiness depends on. ``sentence`` is for operators only."""

    name: str
    ok: bool
    sentence: str


@require_safe
@never_cache
def livez(request: HttpRequest) -> HttpResponse:
    """200 while the process answers at all; touches nothing that it depends on."""
    return HttpResponse("ok\n", content_type="text/plain; charset=utf-8")


@require_safe
@never_cache
def readyz(request: HttpRequest) -> HttpResponse:
    """200 when database, migrations, broker and channel layer are there, else 503.

    ``?verbose`` lists the probes by name; their sentences are for operators and callers with the metrics token only.
    """
    probes = [_run(name, probe) for name, probe in _probes()]
    ready = all(probe.ok for probe in probes)
    lines = []
    if "verbose" in request.GET:
        trusted = may_read_details(request)
        for probe in probes:
            mark = "[+]" if probe.ok else "[-]"
            detail = probe.sentence if trusted else ("ok" if probe.ok else "failed")
            lines.append(f"{mark} {probe.name}: {detail}")
    lines.append("ready" if ready else "not ready")
    return HttpResponse("\n".join(lines) + "\n", status=200 if ready else 503, content_type="text/plain; charset=utf-8")


@require_safe
@never_cache
def health(request: HttpRequest) -> JsonResponse:
    """The shape the predecessor's monitors know: ``{status, authenticated, timestamp, agent_sync_available}``.

    ``authenticated``: a homeserver accepted us at its last test. ``agent_sync_available``: a worker is there to run a sync.
    ``?verbose`` gives operators, and callers with the metrics token, the document of ``GET /api/v1/health`` besides.
    """
    from ops.checks import worker_age
    from ops.choices import ServiceStatus
    from ops.models import Service
    from ops.registry import service_kinds

    authenticated = sync_available = False
    try:
        homeservers = [known.kind for known in service_kinds("homeserver")]
        authenticated = Service.objects.filter(
            kind__in=homeservers, enabled=True, status__in=(ServiceStatus.OK, ServiceStatus.DEGRADED)
        ).exists()
        age = worker_age()
        sync_available = age is not None and age < 60
        status = "healthy"
    except Exception:
        logger.exception("health_failed")
        status = "unhealthy"
    more: dict[str, Any] = {}
    if status == "healthy" and "verbose" in request.GET and may_read_details(request):
        from ops.doctor_services.health_probes import health_document

        more = {"health": health_document(detailed=True)}
    return JsonResponse(
        {
            "status": status,
            "authenticated": authenticated,
            "timestamp": timezone.now().isoformat(),
            "agent_sync_available": sync_available,
            **more,
        },
        status=200 if status == "healthy" else 503,
    )


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus text or OpenMetrics, by ``Accept``. 401 to strangers."""
    if not may_read_details(request):
        answer = HttpResponse(
            "Metrics need the METRICS_TOKEN as a bearer token, or an operator's session.\n", status=401
        )
        answer["WWW-Authenticate"] = 'Bearer realm="metrics"'
        return answer
    from ops.metrics import REGISTRY

    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(REGISTRY), content_type=content_type)


def may_read_details(request: HttpRequest) -> bool:
    """The metrics token, an operator's session, or (only while no token is set) a caller on this machine."""
    token: str = settings.METRICS_TOKEN
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if token and scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode()):
        return True
    try:
        user = getattr(request, "user", None)
        if user is not None and user.is_active and user.is_staff:
            return True
    except Exception:
        # The session lies in the database, and this view has to answer when the database does not.
        logger.warning("session_unreadable", path=request.path)
    return not token and _is_local(request)


def _is_local(request: HttpRequest) -> bool:
    # A reverse proxy on this machine also connects from loopback, for anybody: what it adds gives it away.
    if any(name in request.headers for name in ("X-Forwarded-For", "X-Real-Ip", "Forwarded")):
        return False
    try:
        return ipaddress.ip_address(request.META.get("REMOTE_ADDR") or "").is_loopback
    except ValueError:
        return False


def _run(name: str, probe: Callable[[], str]) -> Probe:
    try:
        return Probe(name, True, probe())
    except Exception as error:
        logger.warning("not_ready", probe=name, error=str(error), error_type=type(error).__name__)
        return Probe(name, False, f"{type(error).__name__}: see the log of this request.")


def _probes() -> list[tuple[str, Callable[[], str]]]:
    probes: list[tuple[str, Callable[[], str]]] = [("database", _database), ("migrations", _migrations)]
    if not settings.EMBEDDED:
        probes.append(("broker", _broker))
    if settings.REDIS_URL:
        probes.append(("channel layer", _channel_layer))
    return probes


def _database() -> str:
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()
    return "answers"


# Applied migrations do not become unapplied while a process runs; a positive answer is kept, a negative one asked again.
_migrated = False


def _migrations() -> str:
    global _migrated
    if not _migrated:
        missing = unapplied_migrations()
        if missing:
            raise RuntimeError(
                f"{counted(len(missing), 'migration is', 'migrations are')} not applied, the first is {missing[0]}."
            )
        _migrated = True
    return "applied"


def unapplied_migrations() -> list[str]:
    """``app.name`` of every migration that the code has and the database has not."""
    executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, backwards in plan if not backwards]


def _broker() -> str:
    from ops.checks import ping_broker

    return ping_broker(timeout=2.0)


def _channel_layer() -> str:
    import redis

    started = time.monotonic()
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2.0, socket_connect_timeout=2.0)
    try:
        client.ping()
    finally:
        client.close()
    return f"answers in {(time.monotonic() - started) * 1000:.0f} ms"
