"""Celery tasks: ids only, safe to run twice, safe to lose."""

from __future__ import annotations

from celery import shared_task

from ops.logs import get_logger

logger = get_logger(__name__)


@shared_task(name="ops.run_job", ignore_result=True)
def run_job(job_id: str) -> None:
    """Run one queued job; does nothing when another worker has it."""
    from ops.services.jobs import run_job as run

    run(job_id)


@shared_task(name="ops.sweep_jobs", ignore_result=True)
def sweep_jobs() -> None:
    """Wake lost jobs, settle those whose worker died, and repairs likewise."""
    from ops.services.jobs import sweep_jobs as sweep
    from ops.services.repairs import sweep_repairs

    sweep()
    sweep_repairs()


@shared_task(name="ops.run_checks", ignore_result=True)
def run_checks() -> None:
    """Run the checks that are due, unless another worker is at it, and the repairs that may run unattended."""
    from ops.runner import run_due_checks
    from ops.services.repairs import run_automatic_repairs

    run_due_checks()
    run_automatic_repairs()


@shared_task(name="ops.heartbeat", ignore_result=True)
def heartbeat() -> None:
    """Say that beat, broker, worker and database work together."""
    from ops.services.heartbeats import stamp

    stamp()


@shared_task(name="ops.begin_histories", ignore_result=True)
def begin_histories() -> None:
    """Write down what objects are of which nothing was written yet."""
    from ops.history.beginnings import begin_histories as begin

    if count := begin():
        logger.info("histories_began", count=count)


@shared_task(name="ops.prune", ignore_result=True)
def prune() -> None:
    """Delete what has outlived its use."""
    from ops.services.pruning import prune as prune_all

    counts = prune_all()
    if any(counts.values()):
        logger.info("pruned", **counts)


@shared_task(name="ops.backups", ignore_result=True)
def backups() -> None:
    """Begin what of backups is due."""
    from ops.services.backup_schedule import tick

    begun = tick()
    if begun:
        logger.info("backups_begun", **begun)


@shared_task(name="ops.alerts", ignore_result=True)
def alerts() -> None:
    """Tell operators what is new about issues."""
    from ops.alerts.send import tell

    tell()


@shared_task(name="ops.ping_outward", ignore_result=True)
def ping_outward() -> None:
    """Tell the dead-man switch outside that all is well, or that it is not."""
    from ops.alerts.outward import ping

    ping()
