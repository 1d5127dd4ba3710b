"""Brings a restored database together with the outside, step by step. Each step's result stands in the restore's report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.utils import timezone

from ops.backup import hooks
from ops.backup.hooks import NotYet, Reconcile
from ops.backup.scopes import kinds as all_kinds
from ops.findings import Finding
from ops.logs import get_logger
from ops.models.restore import Restore, RestoreEpoch, RestoreState
from ops.redaction import redact, redact_text
from ops.services import audit

logger = get_logger(__name__)


def reconcile(
    restore: Restore, *, actor: str, fresh: bool = False, progress: Callable[[int, int, str], None]
) -> Restore:
    """Do the registered steps that were not done yet, and finish the restore. A step that fails leaves the others; the report says so."""
    epoch = RestoreEpoch.objects.order_by("pk").first()
    cut_at = restore.made_at or (epoch.cut_at if epoch is not None else None) or restore.created_at
    findings: list[Finding] = []
    steps = hooks.reconciles()
    for number, (name, function) in enumerate(steps.items()):
        key = f"outside.{name}"
        said = restore.report.get(key)
        if said is not None and not said.get("error") and not said.get("waits"):
            continue  # from before a kill
        progress(number, len(steps), name)
        work = Reconcile(
            cut_at=cut_at,
            now=timezone.now(),
            epoch=epoch.number if epoch is not None else 0,
            kinds=tuple(restore.kinds) or tuple(kind.name for kind in all_kinds()),
            fresh=fresh,
            actor=actor,
            say=findings.append,
            progress=lambda text, number=number: progress(number, len(steps), text),  # type: ignore[misc]
            extra=dict(restore.report.get(f"before.{name}", {})),
        )
        restore.report[key] = {"label": name, **_step(name, function, work)}
        restore.findings = [*restore.findings, *(finding.to_dict() for finding in findings)]
        findings.clear()
        restore.save(update_fields=["report", "findings"])
    restore.state, restore.finished_at = RestoreState.DONE, timezone.now()
    restore.save(update_fields=["state", "finished_at"])
    failed = [said["label"] for key, said in restore.report.items() if said.get("error")]
    audit.record(
        actor=actor,
        action="restore.finished",
        target=restore,
        message=f"Not everything could be brought together: {', '.join(failed)}." if failed else "",
    )
    return restore


def reconcile_what_waits(*, actor: str, progress: Callable[[int, int, str], None]) -> Restore | None:
    """What the last restore had to leave because something was not started yet. None: nothing waits. Called when all of it has started."""
    last = Restore.objects.filter(state=RestoreState.DONE, applied_at__isnull=False).order_by("-applied_at").first()
    if last is None or not waiting(last):
        return None
    fresh = bool(last.report.get("rows", {}).get("fresh"))
    return reconcile(last, actor=actor, fresh=fresh, progress=progress)


def waiting(restore: Restore) -> list[str]:
    """The steps that wait, by their labels."""
    return [str(said["label"]) for said in restore.report.values() if isinstance(said, dict) and said.get("waits")]


def _step(name: str, function: hooks.ReconcileFunction, work: Reconcile) -> dict[str, Any]:
    try:
        return dict(redact(function(work) or {"sentence": "Nothing had to be done."}))
    except NotYet as error:
        # Nothing failed: the report says so calmly, and what was left is done when its time comes.
        return {"sentence": str(error), "waits": True}
    except Exception as error:
        logger.exception("reconcile_failed", step=name)
        said = redact_text(" ".join(str(error).split()))[:500] or type(error).__name__
        work.say(
            Finding(
                "error",
                "restore.reconcile_failed",
                f"{name}: {said} What this step does is also done by the syncs and checks that follow.",
                f"step:{name}",
            )
        )
        return {"sentence": "", "error": said}
