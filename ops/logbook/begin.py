"""Begins the logbook of every process that stays: workers and beat say so by Celery's signals, web servers and ``up`` call ``start``."""

from __future__ import annotations

from typing import Any

from celery.signals import beat_init, worker_init, worker_process_shutdown, worker_shutdown

from ops.logbook import pump


@worker_init.connect(dispatch_uid="ops.logbook.worker")
def worker_begins(**kwargs: Any) -> None:
    """The worker program; the worker inside of ``up`` sends no such signal, and ``up`` has begun one already."""
    pump.start("worker")


@beat_init.connect(dispatch_uid="ops.logbook.beat")
def beat_begins(**kwargs: Any) -> None:
    """The beat program. (A worker with ``--beat`` has one logbook for both.)"""
    pump.start("beat")


@worker_shutdown.connect(dispatch_uid="ops.logbook.worker_end")
@worker_process_shutdown.connect(dispatch_uid="ops.logbook.worker_process_end")
def worker_ends(**kwargs: Any) -> None:
    """What was said until now is written before the process ends."""
    pump.stop()
