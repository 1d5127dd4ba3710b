"""``agent.silent``: messages without an answer, told by the hop where they stopped. ``agent.diagnose`` gets them going again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agents.models import Agent
from chat.doctor.stuck import MOST, SILENT_AFTER, TAKEN_WITHIN, Stuck, stuck
from chat.models import Delivery, DeliveryState, Turn, TurnState
from chat.services import silence as service
from chat.services.turns import FAILED_STATES
from chat.turns import claim
from ops.doctor.repairs import Change, Plan, RepairWork, register_repair
from ops.registry import Affected, CheckOutcome, register_check
from ops.words import counted, verb

HOPS = {"started": "Started", "finished": "Finished", "delivered": "Delivered"}


@register_check(
    "agent.silent",
    title="Every message gets its answer",
    tags=["agents", "messages"],
    interval=60,
    severity="critical",
    depends_on=["db.reachable", "worker.alive", "backend.reachable", "homeserver.reachable"],
    repairs=["agent.diagnose"],
)
def agent_silent() -> CheckOutcome:
    """Messages for which somebody has waited for two minutes and that stand still at one hop of their way.

    Silence that has a check of its own is left to that: servers that do not answer, turns that nobody takes up (``turns.moving``),
    answers and messages that were given up (``deliveries.dead_letters``). Held back by a guard or a paused agent is no silence.
    """
    found = stuck()
    if not found:
        return CheckOutcome("pass", "Nobody has waited for an answer for long.")
    by_agent: dict[int, list[Stuck]] = {}
    for one in found:
        by_agent.setdefault(one.agent, []).append(one)
    affected = [_affected(agent, rows) for agent, rows in by_agent.items()]
    oldest = found[0]
    count = counted(len(found), "message") if len(found) < MOST else f"more than {MOST} messages"
    return CheckOutcome(
        "fail",
        f"{count} to {counted(len(by_agent), 'agent')} {verb(len(found), 'has', 'have')} no answer after {counted(SILENT_AFTER.seconds // 60, 'minute')}. "
        "The oldest, to "
        f"{oldest.agent_name}, stopped at “{HOPS[oldest.hop]}”: {oldest.reason}",
        {
            "messages": len(found),
            "agents": len(by_agent),
            "hops": {hop: sum(one.hop == hop for one in found) for hop in HOPS},
            "oldest": {"message": oldest.message, "hop": oldest.hop, "since": oldest.since.isoformat()},
        },
        affected=tuple(affected),
    )


def _affected(agent: int, rows: list[Stuck]) -> Affected:
    first = rows[0]
    return Affected(
        f"agent:{agent}",
        f"{first.agent_name}: {len(rows)} without an answer; the oldest stopped at “{HOPS[first.hop]}”: {first.reason}",
        {"hop": first.hop, "messages": [one.message for one in rows[:20]], "since": first.since.isoformat()},
    )


def plan(work: RepairWork) -> Plan:
    """What stands still: put off, lost on the way, or given up. Nothing that is under way is touched."""
    steps: list[dict[str, Any]] = []
    changes: list[Change] = []
    for target in _targets(work):
        for step, change in _steps_for(target):
            if step not in steps:
                steps.append(step)
                changes.append(change)
    return Plan(
        f"{counted(len(steps), 'thing that stands still is', 'things that stand still are')} set going again."
        if steps
        else "Nothing stands still.",
        tuple(changes),
        {"steps": steps},
    )


def _targets(work: RepairWork) -> list[str]:
    if work.target:
        return [work.target]
    # Everything: what the checks name is asked for anew, since rows have moved on meanwhile.
    return [""]


def _steps_for(target: str) -> Iterable[tuple[dict[str, Any], Change]]:
    kind, _, key = target.partition(":")
    pk = int(key) if key.isdigit() else None
    about = {kind: pk} if kind in ("agent", "room", "message") and pk is not None else {}
    if not target or about:
        for one in stuck(**about):
            yield _wake(one)
    for row in _waiting(kind, pk):
        yield _step("turn", row.pk, row.agent_id), Change(f"turn:{row.pk}", "start", "waits", "now")
    for turn in _dead_turns(kind, pk):
        yield (
            {"do": "retry", "kind": "turn", "pk": turn.pk},
            Change(f"turn:{turn.pk}", "state", str(turn.state), str(TurnState.QUEUED)),
        )
    for delivery in _dead_deliveries(kind, pk):
        yield (
            {"do": "retry", "kind": "delivery", "pk": delivery.pk},
            Change(f"delivery:{delivery.pk}", "state", str(DeliveryState.DEAD), str(DeliveryState.QUEUED)),
        )


def _step(kind: str, pk: int, agent: int) -> dict[str, Any]:
    return {"do": "wake", "kind": kind, "pk": pk, "agent": agent}


def _wake(one: Stuck) -> tuple[dict[str, Any], Change]:
    words = {
        "turn": Change(f"turn:{one.pk}", "start", one.reason, "now"),
        "delivery": Change(f"delivery:{one.pk}", "sending", one.reason, "now"),
        "reply": Change(f"turn:{one.pk}", "delivery of the answer", None, "made and sent"),
        "message": Change(f"message:{one.pk}", "turn", None, "made and started"),
    }
    return _step(one.kind, one.pk, one.agent), words[one.kind]


def _scope(kind: str, pk: int | None, ways: dict[str, str]) -> dict[str, Any] | None:
    """The filter for a target; ``None`` when this kind of row has nothing to do with it."""
    if not kind:
        return {}
    return {ways[kind]: pk} if kind in ways and pk is not None else None


_TURN_WAYS = {"agent": "agent", "room": "conversation__links__room", "message": "message", "turn": "pk"}
_DELIVERY_WAYS = {"agent": "turn__agent", "room": "room", "message": "turn__message", "turn": "turn", "delivery": "pk"}


def _waiting(kind: str, pk: int | None) -> list[Turn]:
    """Turns that nothing holds back and that nobody takes up: their wake-up was lost again and again."""
    from django.utils import timezone

    where = _scope(kind, pk, _TURN_WAYS)
    if where is None:
        return []
    ready = claim.runnable(due_before=timezone.now() - TAKEN_WITHIN, limit=MOST).values_list("pk", flat=True)
    return list(Turn.objects.filter(pk__in=list(ready), **where).order_by("pk"))


def _dead_turns(kind: str, pk: int | None) -> list[Turn]:
    """Given up after every attempt. Of those that a server refused (``failed``) only the very ones that were asked for."""
    where = _scope(kind, pk, _TURN_WAYS)
    if where is None:
        return []
    states = FAILED_STATES if kind in ("turn", "message") else (TurnState.TIMED_OUT, TurnState.DEAD)
    return list(Turn.objects.filter(state__in=states, **where).order_by("pk")[:MOST])


def _dead_deliveries(kind: str, pk: int | None) -> list[Delivery]:
    where = _scope(kind, pk, _DELIVERY_WAYS)
    if where is None:
        return []
    return list(Delivery.objects.filter(state=DeliveryState.DEAD, **where).order_by("pk")[:MOST])


def apply(work: RepairWork) -> dict[str, Any]:
    """Row by row; what has moved on by itself meanwhile is left alone."""
    done: dict[str, int] = {}
    steps = work.plan.data["steps"]
    for number, step in enumerate(steps, start=1):
        if _do(step, work.actor):
            name = f"{step['do']}_{step['kind']}"
            done[name] = done.get(name, 0) + 1
        work.progress(number, len(steps), "")
    return {"done": done}


def _do(step: dict[str, Any], actor: str) -> bool:
    kind, pk = step["kind"], int(step["pk"])
    if step["do"] == "retry":
        return service.dead_letter_retry(kind=kind, pk=pk, actor=actor)
    if kind == "turn":
        return service.turn_wake(turn=pk, actor=actor)
    if kind == "delivery":
        return service.delivery_wake(delivery=pk, actor=actor)
    if kind == "reply":
        return bool(service.reply_deliver(turn=pk, actor=actor))
    return service.turn_make_up(message=pk, agent=int(step["agent"]), actor=actor) is not None


register_repair(
    "agent.diagnose",
    title="Get what stands still going again",
    repair_class="A",
    button="Get it going",
    explain="Looks for messages and answers that stand still: what was put off starts now, what was lost on the way is made up "
    "for, and dead letters are tried again with the same transaction ids, so that nothing is shown twice. May be repeated.",
    plan=plan,
    apply=apply,
    atomic=True,
    target_kinds=("agent", "room", "message", "turn", "delivery"),
)


def _agents(work: RepairWork) -> list[Agent]:
    targets = [work.target] if work.target else list(work.affected)
    keys = [key for kind, _, key in (target.partition(":") for target in targets) if kind == "agent" and key.isdigit()]
    return list(Agent.objects.filter(pk__in=keys).order_by("pk"))


def plan_resume(work: RepairWork) -> Plan:
    """Paused agents among those that are meant."""
    paused = [agent for agent in _agents(work) if agent.paused]
    waiting = Turn.objects.filter(agent__in=paused, state=TurnState.QUEUED).count() if paused else 0
    return Plan(
        f"{', '.join(agent.name for agent in paused[:5])} {verb(len(paused), 'answers', 'answer')} again, beginning with {counted(waiting, 'message that waits', 'messages that wait')}."
        if paused
        else "No agent of these is paused.",
        tuple(Change(f"agent:{agent.pk}", "paused", True, False) for agent in paused),
        {"agents": [agent.pk for agent in paused]},
        {"agents": [agent.pk for agent in paused]},
    )


def apply_resume(work: RepairWork) -> dict[str, Any]:
    """As the operator's own button."""
    from agents.services.agents import agent_resume

    for agent in Agent.objects.filter(pk__in=work.plan.data["agents"]):
        agent_resume(agent=agent, actor=work.actor)
    return {"resumed": len(work.plan.data["agents"])}


def undo_resume(work: RepairWork) -> None:
    """Paused again."""
    from agents.services.agents import agent_pause

    for agent in Agent.objects.filter(pk__in=work.snapshot["agents"]):
        agent_pause(agent=agent, actor=work.actor)


register_repair(
    "agent.resume",
    title="Let a paused agent answer again",
    repair_class="C",
    button="Resume",
    explain="Takes the pause off. The agent answers what has waited first.",
    plan=plan_resume,
    apply=apply_resume,
    undo=undo_resume,
    atomic=True,
    target_kinds=("agent",),
)
