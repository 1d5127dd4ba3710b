"""What this app registers with those below it."""

from __future__ import annotations

from collections.abc import Iterable

from celery.signals import worker_ready, worker_shutting_down

from agents.sync.observe import register_invitees
from agents.sync.rooms import register_epoch_source
from chat.deliveries.outbox import MATRIX
from chat.deliveries.run import register_target
from chat.matrix import gaps
from chat.matrix.deliver import deliver
from chat.matrix.watch import Watch

register_target(MATRIX, deliver)
register_epoch_source(gaps.current_epoch)


def operators_on_matrix() -> Iterable[str]:
    """Operators with a Matrix account are invited to the space and its rooms."""
    from chat.models import Person

    people = Person.objects.filter(is_active=True, is_staff=True).exclude(matrix_user_id="").order_by("pk")
    return list(people.values_list("matrix_user_id", flat=True))


register_invitees(operators_on_matrix)

_watch: Watch | None = None


@worker_ready.connect
def start_watch(**kwargs: object) -> None:
    """Every worker offers to watch the homeserver; a lock lets one of them do it."""
    global _watch
    if _watch is None or not _watch.is_alive():
        _watch = Watch()
        _watch.start()


@worker_shutting_down.connect
def stop_watch(**kwargs: object) -> None:
    if _watch is not None:
        _watch.stop.set()
