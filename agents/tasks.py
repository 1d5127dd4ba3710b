"""Celery tasks of this app: ids only, safe to run twice, safe to lose."""

from __future__ import annotations

from celery import shared_task


@shared_task(name="agents.sync", ignore_result=True)
def sync() -> None:
    """One pass for all services, unless one is running already."""
    from agents.services.sync import SyncBusy, sync_agents

    try:
        sync_agents(actor="system", trigger="beat", wait=0)
    except SyncBusy:
        return


@shared_task(name="agents.sync_when_due", ignore_result=True)
def sync_when_due() -> None:
    """What beat calls every few seconds: a pass when the interval that counts now is over."""
    from agents.services.sync_pace import sync_due

    if sync_due():
        sync()


@shared_task(name="agents.prune", ignore_result=True)
def prune() -> None:
    """Forget old passes that changed nothing, differences mended long ago, and the secrets of imports that nobody went on with."""
    from agents.services.drift import drift_prune
    from agents.services.imports import prune_imports
    from agents.services.sync import prune_sync_runs

    prune_sync_runs()
    drift_prune()
    prune_imports()


@shared_task(name="agents.check_sessions", ignore_result=True)
def check_sessions() -> None:
    """Ask for a few accounts with sessions of their own whether these still hold, one process at a time."""
    from agents.services.sessions import sessions_check
    from ops.locks import LockHeld, named_lock

    try:
        with named_lock("agents.check_sessions", ttl=120):
            sessions_check()
    except LockHeld:
        return
