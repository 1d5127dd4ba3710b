"""``letta.list_truncated``: a list of agents that was not read to its end is taken for no list. ``sync.run``: one more pass."""

from __future__ import annotations

from functools import partial
from typing import Any

from agents.doctor.mappings.runs import last_runs
from agents.models import Agent, AgentState, SyncState
from agents.services.backends import backend_services
from agents.services.sync import SyncBusy, UnknownService, sync_agents
from agents.sync.steps import SyncPlan
from ops.checks import service_targets
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.registry import CheckOutcome, Fix, register_check
from ops.words import counted, verb

CODE = "sync.incomplete_list"
SHOWN_STEPS = 200


@register_check(
    "letta.list_truncated",
    title="The list of agents is read to its end",
    tags=["agents", "letta"],
    interval=60,
    severity="critical",
    scope="service",
    targets=partial(service_targets, "backend"),
    depends_on=["db.reachable", "backend.reachable"],
    repairs=["sync.run"],
)
def list_truncated(target: str) -> CheckOutcome:
    """Red while the last pass could not prove that it had seen every agent of the service.

    Every list is followed to its end and proven: no id twice, as many as the server counts where it counts. So a list cut at a
    page's length, by the server or by a proxy, is noticed in the same pass; nothing is archived on it.
    """
    last = last_runs().get(target)
    if last is None:
        return CheckOutcome("skip", f"{target} has not been synced yet.")
    known = Agent.objects.filter(service__name=target).exclude(state=AgentState.ARCHIVED).count()
    evidence: dict[str, Any] = {"run": last.pk, "started_at": last.started_at.isoformat(), "agents_known": known}
    cut = next((one for one in last.findings if one.get("code") == CODE), None)
    if cut is not None:
        return CheckOutcome(
            "fail",
            f"{cut.get('sentence')} New agents may be missing. Read the list again; if it stays so, look at the server and at "
            "any proxy before it.",
            {**evidence, "proof": cut.get("sentence")},
            fix=Fix("sync.run", f"service:{target}"),
        )
    if any(str(one.get("code", "")).startswith("backend.") for one in last.findings):
        return CheckOutcome("skip", "The last pass could not read the list at all.", evidence)
    return CheckOutcome(
        "pass",
        f"The list was read to its end; {counted(known, 'agent')} of {target} {verb(known, 'is', 'are')} known.",
        evidence,
    )


def plan(work: RepairWork) -> Plan:
    """A dry run: what the pass would do. A pass is due as well when the last one did not end well, or was slow."""
    name = _service(work)
    try:
        report = sync_agents(actor=work.actor, service_name=name, dry_run=True)
    except UnknownService as error:
        raise RepairRefused(str(error)) from error
    _refuse_what_a_pass_cannot_mend(report.plan, name)
    changes = [Change("sync", step.sentence, None, step.kind) for step in report.plan.steps[:SHOWN_STEPS]]
    rest = len(report.plan.steps) - len(changes)
    if rest > 0:
        changes.append(Change("sync", f"and {counted(rest, 'further step')}"))
    why = _why_again(name)
    if why:
        changes.insert(0, Change("sync", "last pass", why, "a full pass now"))
    sentence = (
        f"One pass over {name or 'all servers'}, with {counted(len(report.plan.steps), 'step')}." if changes else ""
    )
    return Plan(
        sentence or "The last pass ended well, and nothing has changed since.", tuple(changes), {"service": name}
    )


def _service(work: RepairWork) -> str:
    kind, colon, rest = work.target.partition(":")
    name = rest if colon and kind == "service" else work.target
    return name if name in {service.name for service in backend_services()} else ""


def _refuse_what_a_pass_cannot_mend(found: SyncPlan, name: str) -> None:
    for finding in found.findings:
        if finding.code == CODE:
            raise RepairRefused(
                f"The list is still cut off, so another pass mends nothing. {finding.sentence} Look at the server, and at any "
                "proxy before it that limits the size of a page."
            )
    if found.stopped:
        raise RepairRefused(
            f"The sync of {', '.join(found.stopped)} asks first: "
            + " ".join(finding.sentence for finding in found.findings if finding.target in found.stopped)
        )


def _why_again(name: str) -> str:
    """Why a pass is wanted although nothing has changed; "" when it is not."""
    from agents.doctor.mappings.pace import slow_now

    for service, last in last_runs().items():
        if name and service != name:
            continue
        if last.state == SyncState.FAILED:
            return "failed"
        if last.state == SyncState.STOPPED:
            return "stopped"
        if any(one.get("code") == CODE for one in last.findings):
            return "read an incomplete list"
    if slow_now() is not None:
        return "slow"
    return _never(name)


def _never(name: str) -> str:
    known = last_runs()
    wanted = [name] if name else [service.name for service in backend_services()]
    return "never" if any(one not in known for one in wanted) else ""


def apply(work: RepairWork) -> dict[str, Any]:
    """The pass. Raises ``RepairFailed`` with the reason when it does not end well."""
    name = work.plan.data["service"]
    try:
        report = sync_agents(actor=work.actor, trigger="repair", service_name=name, wait=120, progress=work.progress)
    except SyncBusy as error:
        raise RepairFailed(f"{error} It does what you asked for; look again when it has ended.") from error
    if report.state != SyncState.DONE:
        raise RepairFailed(report.error or " ".join(finding.sentence for finding in report.findings[:3]))
    return {"run": report.run_id, "applied": report.applied, "findings": len(report.findings)}


register_repair(
    "sync.run",
    title="Sync agents now",
    repair_class="A",
    button="Sync now",
    explain="Reads the complete list of agents again and brings accounts, rooms and the space in line. What it would do is shown "
    "first; a plan that looks like a mistake stops and asks.",
    plan=plan,
    apply=apply,
    long=True,
)
