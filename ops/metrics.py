"""Numbers about jobs, checks, services and workers, for /metrics."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Count, Max
from django.utils import timezone
from prometheus_client.core import CollectorRegistry, CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector as PrometheusCollector

from ops.choices import CheckStatus, JobState, ServiceStatus
from ops.logs import get_logger
from ops.models import CheckState, Heartbeat, Job, Service
from ops.registry import collectors, register_metrics

logger = get_logger(__name__)


class RegisteredCollectors(PrometheusCollector):
    """Asks every registered collector at each scrape; one that fails is counted and left out."""

    def __init__(self) -> None:
        self.failures: dict[str, int] = {}

    def collect(self) -> Iterable[Metric]:
        for name, collector in collectors().items():
            try:
                # Read to the end first: half a family would spoil the whole answer.
                families = list(collector())
            except Exception:
                logger.exception("metrics_collector_failed", collector=name)
                self.failures[name] = self.failures.get(name, 0) + 1
                continue
            yield from families
        failed = CounterMetricFamily(
            "switchboard_collector_failures", "Scrapes in which a collector failed.", labels=["collector"]
        )
        for name, count in self.failures.items():
            failed.add_metric([name], count)
        yield failed

    def describe(self) -> Iterable[Metric]:
        # Registration must not touch the database.
        return []


REGISTRY = CollectorRegistry()
REGISTRY.register(RegisteredCollectors())


@register_metrics
def job_metrics() -> Iterable[Metric]:
    jobs = GaugeMetricFamily("switchboard_jobs", "Jobs by state.", labels=["state"])
    counts = dict(Job.objects.order_by().values_list("state").annotate(n=Count("pk")))
    for state in JobState.values:
        jobs.add_metric([state], counts.get(state, 0))
    yield jobs


@register_metrics
def check_metrics() -> Iterable[Metric]:
    by_status = GaugeMetricFamily("switchboard_checks", "Checks by their last status.", labels=["status"])
    counts = dict(CheckState.objects.order_by().values_list("status").annotate(n=Count("pk")))
    for status in CheckStatus.values:
        by_status.add_metric([status], counts.get(status, 0))
    yield by_status
    failing = GaugeMetricFamily(
        "switchboard_check_failures_in_a_row", "Failures in a row of checks that fail now.", labels=["check", "target"]
    )
    for check_id, target, count in CheckState.objects.filter(status=CheckStatus.FAIL).values_list(
        "check_id", "target", "failures_in_a_row"
    ):
        failing.add_metric([check_id, target], count)
    yield failing
    newest = CheckState.objects.aggregate(newest=Max("checked_at"))["newest"]
    age = GaugeMetricFamily("switchboard_checks_age_seconds", "Seconds since any check last ran.")
    if newest is not None:
        age.add_metric([], max(0.0, (timezone.now() - newest).total_seconds()))
    yield age


@register_metrics
def service_metrics() -> Iterable[Metric]:
    up = GaugeMetricFamily(
        "switchboard_service_up", "1 when the last test of an enabled service said ok.", labels=["service", "kind"]
    )
    latency = GaugeMetricFamily(
        "switchboard_service_latency_seconds", "Duration of the last test of a service.", labels=["service", "kind"]
    )
    rows = Service.objects.filter(enabled=True).values_list("name", "kind", "status", "latency_ms")
    for name, kind, status, latency_ms in rows:
        up.add_metric([name, kind], float(status == ServiceStatus.OK))
        if latency_ms is not None:
            latency.add_metric([name, kind], latency_ms / 1000)
    yield up
    yield latency


@register_metrics
def heartbeat_metrics() -> Iterable[Metric]:
    age = GaugeMetricFamily("switchboard_worker_heartbeat_age_seconds", "Seconds since a worker last reported.")
    newest = Heartbeat.objects.aggregate(newest=Max("seen_at"))["newest"]
    if newest is not None:
        age.add_metric([], max(0.0, (timezone.now() - newest).total_seconds()))
    yield age
