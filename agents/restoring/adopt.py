"""Rooms and accounts that were made after the cut: found on the homeserver and taken up again, so that nothing is made twice."""

from __future__ import annotations

from typing import Any

from django.db.models import Max

from agents.matrix.errors import MatrixError
from agents.models import Room
from agents.restoring.chats import adopt_chats
from agents.restoring.order import ADOPTING
from agents.restoring.waiting import unless_started
from agents.services.backends import NoHomeserver, open_homeserver
from agents.services.rebuild import rebuild_apply, rebuild_plan
from agents.services.sync import SyncBusy, sync_agents
from agents.sync.takeover import History
from ops.backup.hooks import Reconcile, register_reconcile
from ops.findings import Finding
from ops.models import RestoreEpoch
from ops.words import counted, verb

SHOWN = 20


def adopt(work: Reconcile) -> dict[str, Any] | None:
    """Returns ``{"sentence", "adopted": [names], "written": counts}``."""
    if not {"mappings", "conversations"} & set(work.kinds):
        return None
    unless_started("accounts and rooms that were made since the backup are taken up then.")
    work.progress("Looking for accounts and rooms on the homeserver")
    try:
        homeserver = open_homeserver()
        plan = rebuild_plan(homeserver=homeserver)
    except NoHomeserver:
        return {"sentence": "No homeserver is set up."}
    except MatrixError as error:
        raise _unreachable(error) from error
    for finding in plan.unread:
        work.say(finding)
    for doubt in plan.search.doubts:
        work.say(Finding("warning", "rebuild.doubt", doubt.sentence, doubt.target, {"rooms": list(doubt.rooms)}))
    names = [claim.wanted.info.name for claim in plan.search.claims]
    written: dict[str, int] = {}
    if plan.writes:
        report = rebuild_apply(plan=plan, actor=work.actor, history=history_of(work))
        written = report.counts
        for finding in report.findings:
            if finding.code not in {"rebuild.doubt"} and finding not in plan.unread:
                work.say(finding)
    if not names:
        sentence = "Every account and room on the homeserver is known."
    else:
        shown = ", ".join(names[:SHOWN]) + (" …" if len(names) > SHOWN else "")
        sentence = f"{counted(len(names), 'agent')} made after the backup {verb(len(names), 'was', 'were')} found on the homeserver and taken up again: {shown}."
    return {"sentence": sentence, "adopted": names[:1000], "written": written}


def chats(work: Reconcile) -> dict[str, Any] | None:
    """See ``agents.restoring.chats``."""
    if not {"mappings", "conversations"} & set(work.kinds):
        return None
    unless_started("chats that were opened since are taken up then.")
    work.progress("Looking for chats that were opened since")
    try:
        return adopt_chats(work, history_of(work))
    except MatrixError as error:
        raise _unreachable(error) from error


def history_of(work: Reconcile) -> History:
    """From the cut to the line that the restore drew."""
    drawn = Room.objects.aggregate(until=Max("history_until"))["until"]
    drawn = drawn or RestoreEpoch.objects.order_by("pk").values_list("at", flat=True).first()
    return History(since=work.cut_at, until=drawn or work.now)


def sync(work: Reconcile) -> dict[str, Any] | None:
    """One pass over all servers: what the backup did not know of them is made or mended. Returns ``{"sentence", "run", "applied"}``."""
    unless_started("all servers are compared then.")
    work.progress("Comparing with the agents' servers")
    try:
        report = sync_agents(actor=work.actor, trigger="restore", wait=120.0)
    except SyncBusy:
        return {"sentence": "A sync was running already; it sees to the same."}
    for finding in report.findings[:200]:
        work.say(finding)
    done = sum(report.applied.values())
    if report.plan.stopped:
        sentence = "Sync stopped and waits for a decision; its findings say which."
    elif report.error:
        sentence = f"Sync could not finish: {report.error}"
    elif done:
        sentence = f"Sync did what was missing ({', '.join(f'{kind} {number}' for kind, number in sorted(report.applied.items()))})."
    else:
        sentence = "Sync found nothing to do."
    return {"sentence": sentence, "run": report.run_id, "applied": report.applied}


def _unreachable(error: MatrixError) -> Exception:
    return RuntimeError(
        f"The homeserver could not be asked: {error.sentence} Nothing is made meanwhile; do this step again when it answers."
    )


register_reconcile(ADOPTING, adopt)
register_reconcile("Chats", chats)
register_reconcile("Agents' servers", sync)
