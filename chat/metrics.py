"""Numbers about turns and deliveries."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Count, Min
from django.utils import timezone
from prometheus_client.core import GaugeMetricFamily, Metric

from chat.models import Delivery, DeliveryState, Turn, TurnState
from ops.registry import register_metrics

_OPEN_TURNS = [TurnState.QUEUED, TurnState.RUNNING, TurnState.WAITING_APPROVAL, TurnState.DEAD, TurnState.TIMED_OUT]
_OPEN_DELIVERIES = [DeliveryState.QUEUED, DeliveryState.RUNNING, DeliveryState.DEAD]


@register_metrics
def chat_metrics() -> Iterable[Metric]:
    """Open turns and deliveries by state, and how old the oldest waiting one is. Finished rows are not counted: there are many."""
    for name, model, states in (("turns", Turn, _OPEN_TURNS), ("deliveries", Delivery, _OPEN_DELIVERIES)):
        family = GaugeMetricFamily(
            f"switchboard_{name}", f"{name.capitalize()} that are not finished.", labels=["state"]
        )
        rows = model.objects.filter(state__in=states).order_by().values_list("state").annotate(count=Count("pk"))
        counts = dict(rows)
        for state in states:
            family.add_metric([str(state)], counts.get(str(state), 0))
        yield family
        oldest = model.objects.filter(state="queued").aggregate(at=Min("created_at"))["at"]
        lag = GaugeMetricFamily(f"switchboard_{name}_lag_seconds", f"Age of the oldest of the {name} that wait.")
        lag.add_metric([], max(0.0, (timezone.now() - oldest).total_seconds()) if oldest else 0.0)
        yield lag
