"""Numbers about agents and sync."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Count
from prometheus_client.core import GaugeMetricFamily, Metric

from agents.models import Agent, Mapping, SyncRun, SyncState
from ops.registry import register_metrics


@register_metrics
def agent_metrics() -> Iterable[Metric]:
    """Agents by service and state, mappings with a problem, and when the last pass ended well."""
    agents = GaugeMetricFamily("switchboard_agents", "Agents by service and state.", labels=["service", "state"])
    for service, state, count in (
        Agent.objects.order_by().values_list("service__name", "state").annotate(count=Count("pk"))
    ):
        agents.add_metric([service, state], count)
    yield agents
    trouble = GaugeMetricFamily("switchboard_mappings_with_a_problem", "Mappings whose account or room has a problem.")
    trouble.add_metric([], Mapping.objects.exclude(problem="").count())
    yield trouble
    last = SyncRun.objects.filter(state=SyncState.DONE).order_by("-id").values_list("finished_at", flat=True).first()
    synced = GaugeMetricFamily("switchboard_last_sync_timestamp_seconds", "When the last sync ended well.")
    if last is not None:
        synced.add_metric([], last.timestamp())
    yield synced
