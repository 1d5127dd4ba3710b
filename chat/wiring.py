"""What this app registers with those below it."""

from __future__ import annotations

from collections.abc import Iterable

from celery.signals import worker_ready, worker_shutting_down

from agents.services.moving import register_mover
from agents.services.rebuild_rows import register_direct_room
from agents.services.refill import register_forgetter
from agents.services.renaming import register_keeper
from agents.services.sessions import register_maker, register_watcher
from agents.sync.again import register_history_writer
from agents.sync.epochs import register_epoch_source
from agents.sync.observe import register_invitees
from chat.deliveries.outbox import MATRIX
from chat.deliveries.run import register_target
from chat.doctor.recovery.renaming import links_of
from chat.matrix import gaps, state_events, told_again
from chat.matrix.deliver import deliver
from chat.matrix.hearing import watch_account
from chat.matrix.sync_loop import SyncLoop, begin_anew
from chat.matrix.watch import Watch
from chat.turns import moved
from chat.turns.latecomers import Latecomers

register_target(MATRIX, deliver)
register_epoch_source(gaps.current_epoch)
register_direct_room(state_events.join_conversation)
register_mover(moved.forget_places, guard=moved.refuse_while_answering)
register_history_writer(told_again.tell)
register_forgetter(told_again.forget_homeserver)
register_keeper(links_of)


def operators_on_matrix() -> Iterable[str]:
    """Operators with a Matrix account are invited to the space and its rooms."""
    from chat.models import Person

    people = Person.objects.filter(is_active=True, is_staff=True).exclude(matrix_user_id="").order_by("pk")
    return list(people.values_list("matrix_user_id", flat=True))


register_invitees(operators_on_matrix)


register_watcher(watch_account)
register_maker(begin_anew)

_threads: list[Watch | SyncLoop | Latecomers] = []


@worker_ready.connect
def start_threads(**kwargs: object) -> None:
    """Every worker offers to watch the homeserver, or to listen there (locks let one do it), and looks out for other processes' work."""
    if not any(thread.is_alive() for thread in _threads):
        _threads[:] = [Watch(), SyncLoop(), Latecomers()]
        for thread in _threads:
            thread.start()


@worker_shutting_down.connect
def stop_threads(**kwargs: object) -> None:
    for thread in _threads:
        thread.stop.set()
