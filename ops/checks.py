"""Checks of the ground floor: database, broker, workers, and every service that has a tester."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from celery import current_app
from django.conf import settings
from django.db import connection
from django.db.models import Max
from django.utils import timezone

from ops.health import unapplied_migrations
from ops.models import Heartbeat, NamedLock, Process, ProcessRole, Service, ServiceStatus
from ops.processes.queries import alive
from ops.registry import CheckOutcome, Fix, all_checks, register_check, service_kind
from ops.services.services import service_test
from ops.words import counted

# Beat sends a heartbeat every 10 seconds.
HEARTBEAT_LATE = 30.0
HEARTBEAT_DEAD = 60.0
_SLOW_DATABASE = 1.0


@register_check(
    "db.reachable", title="The database reads and writes", tags=("start", "database"), interval=30, severity="critical"
)
def database() -> CheckOutcome:
    """Commits a row, reads it back, and looks for migrations that are not applied."""
    started = time.monotonic()
    mark = uuid.uuid4().hex
    row = {"holder": mark, "expires_at": timezone.now()}
    NamedLock.objects.update_or_create(name="check:db.reachable", defaults=row)
    if NamedLock.objects.filter(name="check:db.reachable", holder=mark).count() != 1:
        return CheckOutcome("fail", "The database does not give back what was just written. Is it a replica?")
    seconds = time.monotonic() - started
    evidence = {"vendor": connection.vendor, "milliseconds": round(seconds * 1000, 1)}
    missing = unapplied_migrations()
    if missing:
        return CheckOutcome(
            "fail",
            f"{counted(len(missing), 'migration is', 'migrations are')} not applied, the first is {missing[0]}. Run: python manage.py migrate",
            {**evidence, "unapplied": missing[:50]},
        )
    if seconds > _SLOW_DATABASE:
        return CheckOutcome("warn", f"The database took {seconds:.1f} s to write and read one row.", evidence)
    return CheckOutcome("pass", f"Written and read in {seconds * 1000:.0f} ms.", evidence)


@register_check(
    "broker.reachable",
    title="The broker carries messages",
    tags=("start", "broker"),
    interval=30,
    severity="critical",
    timeout=8,
    depends_on=("db.reachable",),
)
def broker() -> CheckOutcome:
    """A real broker: publishes a message and takes it out again. The one in memory: its worker took a heartbeat lately."""
    if settings.EMBEDDED:
        if Process.objects.filter(role=ProcessRole.UP).exists() and not alive((ProcessRole.UP,)):
            return CheckOutcome("skip", "Nothing runs that could have a broker in memory; another check tells of it.")
        outcome = _heartbeat("The broker in memory is served", "The embedded worker")
        return replace(outcome, fix=Fix("service.restart", "role:up")) if outcome.status == "fail" else outcome
    started = time.monotonic()
    ping_broker(timeout=5.0, round_trip=True)
    milliseconds = (time.monotonic() - started) * 1000
    return CheckOutcome(
        "pass", f"A message went there and back in {milliseconds:.0f} ms.", {"milliseconds": round(milliseconds, 1)}
    )


@register_check(
    "worker.alive",
    title="A worker takes tasks",
    tags=("start", "worker"),
    interval=15,
    severity="critical",
    depends_on=("db.reachable", "broker.reachable", "svc.down", "svc.stack_start", "svc.crash_loop"),
    repairs=("service.restart",),
)
def worker() -> CheckOutcome:
    """Beat sends a heartbeat every 10 seconds; a worker stamps it. Without one nobody answers and nothing is delivered."""
    return _heartbeat("A worker reports", "The last worker")


def _heartbeat(good: str, who: str) -> CheckOutcome:
    age = worker_age()
    if age is None:
        return CheckOutcome("fail", "No worker has ever reported. Start one (it comes with `up`), together with beat.")
    evidence = {"age_seconds": round(age, 1)}
    if age > HEARTBEAT_DEAD:
        return CheckOutcome(
            "fail", f"{who} reported {_ago(age)}. Messages wait until a worker and beat run again.", evidence
        )
    if age > HEARTBEAT_LATE:
        return CheckOutcome("warn", f"{who} reported {_ago(age)}; it should every 10 seconds.", evidence)
    return CheckOutcome("pass", f"{good}: {_ago(age)}.", evidence)


def worker_age() -> float | None:
    """Seconds since any worker last reported; None when none ever did."""
    newest = Heartbeat.objects.aggregate(newest=Max("seen_at"))["newest"]
    return None if newest is None else max(0.0, (timezone.now() - newest).total_seconds())


def _ago(seconds: float) -> str:
    return f"{timedelta(seconds=round(seconds))} ago" if seconds >= 120 else f"{seconds:.0f} s ago"


def ping_broker(*, timeout: float = 2.0, round_trip: bool = False) -> str:
    """Connect to Celery's broker; with ``round_trip`` send a message through a queue of our own and read it.

    Raises what the broker's client raises. Returns a word on how long it took.
    """
    started = time.monotonic()
    with current_app.connection_for_write(connect_timeout=timeout) as broker_connection:
        broker_connection.ensure_connection(max_retries=1, interval_start=0, timeout=timeout)
        if round_trip:
            name = f"switchboard.ping.{uuid.uuid4().hex}"
            queue = broker_connection.SimpleQueue(
                name, queue_opts={"durable": False, "auto_delete": True, "expires": 60}
            )
            try:
                queue.put({"ping": name}, expiration=timeout)
                answer = queue.get(timeout=timeout)
                answer.ack()
                if answer.payload != {"ping": name}:
                    raise RuntimeError("The broker gave back another message than the one that was sent.")
            finally:
                queue.queue.delete()
                queue.close()
        else:
            broker_connection.default_channel  # noqa: B018 -- opening it asks the server
    return f"answers in {(time.monotonic() - started) * 1000:.0f} ms"


def service_targets(*roles: str) -> list[str]:
    """Names of the enabled services that have a tester: those of ``roles``, or of all roles."""
    names = []
    for name, kind in Service.objects.filter(enabled=True).order_by("name").values_list("name", "kind"):
        known = service_kind(kind)
        if known is not None and known.tester is not None and (not roles or known.role in roles):
            names.append(name)
    return names


def service_outcome(name: str) -> CheckOutcome:
    """Test the service of this name, store its status, and say so as a check: for every ``<role>.reachable``."""
    service = Service.objects.filter(name=name).first()
    if service is None or not service.enabled:
        return CheckOutcome("skip", "The service is switched off or was removed.")
    result = service_test(service=service, actor="system")
    evidence = {
        "kind": service.kind,
        "base_url": service.base_url,
        "version": service.version,
        "latency_ms": service.latency_ms,
    }
    if result.status == ServiceStatus.OK:
        return CheckOutcome("pass", result.sentence, evidence)
    return CheckOutcome("warn" if result.status == ServiceStatus.DEGRADED else "fail", result.sentence, evidence)


def _other_services() -> Iterable[str]:
    """Services whose role has no check of its own (``homeserver.reachable``, ``backend.reachable``)."""
    covered = {check.id.removesuffix(".reachable") for check in all_checks() if check.id.endswith(".reachable")} - {
        "service"
    }
    for name, kind in Service.objects.filter(enabled=True).order_by("name").values_list("name", "kind"):
        known = service_kind(kind)
        if known is not None and known.tester is not None and known.role not in covered:
            yield name


@register_check(
    "service.reachable",
    title="The service answers",
    tags=("services",),
    interval=30,
    timeout=25,
    scope="service",
    depends_on=("db.reachable", "net.dns", "net.firewall", "net.egress_proxy"),
    targets=_other_services,
    repairs=("service.restart", "health.recheck"),
    covers=("svc.down",),
)
def service_reachable(name: str) -> CheckOutcome:
    """Any service with a tester for which no check of its own is registered."""
    return service_outcome(name)
