"""The Celery application: tasks carry ids only, and every row that needs work is found again by a sweep."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from celery import Celery, Task
from celery.signals import beat_init, setup_logging, worker_init, worker_ready, worker_shutting_down
from kombu import Exchange, Queue

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")

# What goes on while rows are put back: what says that we live, and nothing that writes or sends anything else.
UNDISTURBED = frozenset({"ops.heartbeat", "ops.ping_outward"})


class StillTask(Task):
    """A task that is not run while rows are put back (``ops.quiet``): every task may be lost, and a sweep finds its row again."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from ops.quiet import held_here, is_quiet

        if self.name not in UNDISTURBED and not held_here() and is_quiet():
            return None
        return self.run(*args, **kwargs)


app = Celery("switchboard", task_cls=StillTask)
# `up` provisions before it starts its worker, and knows better whether the local homeserver runs.
provision_at_start = True


def _beat() -> dict[str, dict[str, Any]]:
    from agents.schedule import beat as agents_beat
    from chat.schedule import beat as chat_beat
    from ops.schedule import BEAT as ops_beat

    return {**ops_beat, **agents_beat(), **chat_beat()}


def _defaults() -> dict[str, Any]:
    from django.conf import settings

    return dict(  # noqa: C408
        # The in-memory transport ignores the host, but complains when there is none.
        broker_url="memory://localhost/" if settings.EMBEDDED else settings.CELERY_BROKER_URL,
        broker_connection_retry_on_startup=True,
        broker_transport_options=(
            {"polling_interval": 0.005}
            if settings.EMBEDDED
            # A broker that stands still must not hold up whoever has just stored a message.
            else {
                "visibility_timeout": 3600,
                "socket_keepalive": True,
                "socket_connect_timeout": 3,
                "socket_timeout": 5,
            }
        ),
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        # Rows are the truth: a lost task is found again by a sweep, so acknowledging early loses nothing.
        task_acks_late=False,
        worker_prefetch_multiplier=4,
        worker_hijack_root_logger=False,
        worker_pool="threads",
        worker_concurrency=settings.WORKER_CONCURRENCY,
        worker_send_task_events=False,
        # Each queue has an exchange of its own name: with a shared one every message would reach both.
        task_queues=[Queue(name, Exchange(name), routing_key=name) for name in ("work", "turns")],
        task_default_queue="work",
        task_default_exchange="work",
        task_default_routing_key="work",
        task_routes={"chat.run_turn": {"queue": "turns"}, "chat.deliver": {"queue": "turns"}},
        beat_schedule=_beat(),
        # The schedule is made of plain intervals: nothing to remember between two starts.
        beat_scheduler="celery.beat:Scheduler",
        beat_max_loop_interval=1,
        timezone="UTC",
    )


app.set_default()
app.add_defaults(_defaults)
app.autodiscover_tasks(["ops", "agents", "chat"])


@setup_logging.connect
def keep_our_logging(**kwargs: Any) -> None:
    """Settings have configured logs already; whoever answers this signal keeps Celery from doing it again."""


@worker_init.connect
def report_worker(**kwargs: Any) -> None:
    """The process is a worker from here on; inside of `up` it stays what it was."""
    from ops.processes import reporter

    reporter.start("worker")


@beat_init.connect
def report_beat(**kwargs: Any) -> None:
    """Beat has no more to say of its start than this."""
    from ops.processes import reporter

    process = reporter.start("beat")
    if process is not None:
        process.ready()


@worker_shutting_down.connect
def report_end(sig: str = "", how: str = "", **kwargs: Any) -> None:
    """What ended the worker is known here only; it says so when its work is done."""
    from ops.processes import reporter

    process = reporter.current()
    if process is not None and process.role == "worker":
        process.end_reason = process.end_reason or f"Ended as asked ({sig}, {how})."


@worker_init.connect
def provision_services(**kwargs: Any) -> None:
    """Every worker starts with the services that its environment describes."""
    if not provision_at_start:
        return
    from controlplane.provision import provision
    from ops.logs import get_logger

    log = get_logger(__name__)
    try:
        result = provision()
    except Exception:
        # The database may not be there yet; a worker that starts before it keeps trying its broker and rows.
        log.exception("provision.failed")
        return
    for sentence in (*result.notes, *result.problems):
        log.warning("provision", note=sentence)


@worker_ready.connect
def first_heartbeat(**kwargs: Any) -> None:
    """A new worker reports at once: until beat's next tick it would look as if there was none."""
    from ops.processes import reporter

    process = reporter.current()
    if process is not None and process.role == "worker":
        process.ready()
    with contextlib.suppress(Exception):
        app.send_task("ops.heartbeat", expires=30, retry=False)
