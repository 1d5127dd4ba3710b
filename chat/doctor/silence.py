"""Why is it silent? The hops between a person's words and the agent's answer, the first one that is red, and one repair for it.

For an agent, a room or a message. What the page, ``GET /traces/{message}`` and ``manage.py doctor --target agent:42`` show.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from agents.models import Agent, AgentState, Mapping, Room, RoomKind
from agents.services.backends import mode_of
from chat.doctor.stuck import Stuck, stuck
from chat.matrix.state_events import agent_of_direct_room
from chat.models import Conversation, Link, LinkKind, Message, MessageState, RefusedEvent, Role, Turn
from chat.trace import GOOD, OFF, TROUBLE, WORKING, Hop, trace
from ops.checks import HEARTBEAT_DEAD, worker_age
from ops.doctor.queries import Offer, issues_about, offer_of, open_issues
from ops.doctor.repairs import get_repair
from ops.models import CheckState, CheckStatus, Service, ServiceStatus

RECENTLY = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class HopState:
    """One hop. ``lamp`` is good, working, trouble or off; ``note`` says what was found; ``offer`` mends it when it is red."""

    name: str
    label: str
    lamp: str
    note: str = ""
    at: datetime | None = None
    after_ms: float | None = None
    offer: Offer | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{name, label, lamp, note, at, after_ms}``."""
        return {
            "name": self.name,
            "label": self.label,
            "lamp": self.lamp,
            "note": self.note,
            "at": self.at.isoformat() if self.at else None,
            "after_ms": self.after_ms,
        }


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The hops in order, the first red one (``None``: nothing is wrong), one sentence, and at most one repair."""

    hops: tuple[HopState, ...]
    red_hop: HopState | None
    sentence: str
    offer: Offer | None
    agent: Agent | None = None
    message: Message | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{agent, message, sentence, red_hop, hops: […], offer: {repair, target, params, button, class} | null}``."""
        return {
            "agent": self.agent.pk if self.agent is not None else None,
            "message": self.message.pk if self.message is not None else None,
            "sentence": self.sentence,
            "red_hop": self.red_hop.name if self.red_hop is not None else None,
            "hops": [hop.to_dict() for hop in self.hops],
            "offer": {
                "repair": self.offer.repair.id,
                "target": self.offer.target,
                "params": self.offer.params,
                "button": self.offer.repair.button,
                "class": str(self.offer.repair.repair_class.value),
            }
            if self.offer is not None
            else None,
        }


def diagnose(subject: Agent | Room | Message) -> Diagnosis:
    """Look at the hops in order and propose exactly one repair: that of the first red one. Reads rows only, asks no server.

    Of an agent or a room the message is judged that waits longest, else the last one.
    """
    agent, room, message, waiting = _about(subject)
    hops = list(_hops(agent, room, message, waiting))
    red = next((hop for hop in hops if hop.lamp == TROUBLE), None)
    return Diagnosis(
        tuple(hops), red, _sentence(agent, message, hops, red), red.offer if red is not None else None, agent, message
    )


def _about(subject: Agent | Room | Message) -> tuple[Agent | None, Room | None, Message | None, Stuck | None]:
    if isinstance(subject, Message):
        room = _room_of(subject.conversation)
        return _agent_of(subject, room), room, subject, next(iter(stuck(message=subject.pk)), None)
    if isinstance(subject, Room):
        waiting = next(iter(stuck(room=subject.pk)), None)
        message = _message(waiting) or _last(Message.objects.filter(conversation__links__room=subject))
        agent = _agent_of_room(subject)
        return _with_all(agent), subject, message, waiting
    waiting = next(iter(stuck(agent=subject.pk)), None)
    mapping = Mapping.objects.select_related("room").filter(agent=subject).first()
    message = _message(waiting)
    if message is None:
        pk = Turn.objects.filter(agent=subject).order_by("-id").values_list("message_id", flat=True).first()
        message = Message.objects.filter(pk=pk).first() if pk else None
        held = (
            _last(Message.objects.filter(conversation__links__room=mapping.room))
            if mapping is not None and mapping.room
            else None
        )
        if held is not None and (message is None or held.pk > message.pk):
            message = held
    room = _room_of(message.conversation) if message is not None else (mapping.room if mapping is not None else None)
    return _with_all(subject), room, message, waiting


def _last(messages: Any) -> Message | None:
    found: Message | None = messages.filter(role=Role.USER).order_by("-id").first()
    return found


def _message(waiting: Stuck | None) -> Message | None:
    return Message.objects.filter(pk=waiting.message).first() if waiting is not None else None


def _room_of(conversation: Conversation) -> Room | None:
    link = Link.objects.select_related("room").filter(conversation=conversation, room__isnull=False).first()
    return link.room if link is not None else None


def _agent_of(message: Message, room: Room | None) -> Agent | None:
    turn = Turn.objects.filter(message=message).order_by("pk").first()
    if turn is not None:
        return _with_all(Agent(pk=turn.agent_id))
    if room is not None:
        return _with_all(_agent_of_room(room))
    link = Link.objects.filter(conversation=message.conversation, kind=LinkKind.API).first()
    key = link.address.split(":")[1] if link is not None and link.address.startswith("agent:") else ""
    return _with_all(Agent(pk=int(key))) if key.isdigit() else None


def _agent_of_room(room: Room) -> Agent | None:
    mapping = Mapping.objects.select_related("agent").filter(room=room).first()
    return mapping.agent if mapping is not None else agent_of_direct_room(room)


def _with_all(agent: Agent | None) -> Agent | None:
    if agent is None:
        return None
    return (
        Agent.objects.select_related("service", "mapping__account__homeserver", "mapping__room")
        .filter(pk=agent.pk)
        .first()
    )


def _hops(agent: Agent | None, room: Room | None, message: Message | None, waiting: Stuck | None) -> Iterable[HopState]:
    """Places first that every message passes, then this message's own way."""
    if room is not None or (agent is not None and getattr(agent, "mapping", None) is not None):
        yield _homeserver_hop()
        yield _room_hop(agent, room, message)
    yield _worker_hop()
    yield _agent_hop(agent)
    if agent is not None:
        yield _backend_hop(agent.service)
    if message is None:
        yield HopState("received", "Received", OFF, "Nobody has said anything yet.")
        return
    for hop in trace(message):
        yield _own_hop(hop, message, agent, waiting)


def _homeserver_hop() -> HopState:
    service = Service.objects.filter(enabled=True, kind="homeserver").order_by("pk").first()
    if service is None:
        return HopState("homeserver", "Homeserver", OFF, "No homeserver is set up.")
    return _service_hop("homeserver", "Homeserver", service)


def _backend_hop(service: Service) -> HopState:
    if not service.enabled:
        return HopState("backend", "Agent's server", TROUBLE, f"{service.name} is switched off.")
    return _service_hop("backend", "Agent's server", service)


def _service_hop(name: str, label: str, service: Service) -> HopState:
    state = CheckState.objects.filter(check_id=f"{name}.reachable", target=service.name).first()
    if service.status == ServiceStatus.DOWN or (state is not None and state.status == CheckStatus.FAIL):
        note = service.status_sentence or (state.sentence if state is not None else "It does not answer.")
        offers = (offer_of(issue) for issue in issues_about(f"service:{service.name}"))
        return HopState(name, label, TROUBLE, note, offer=next((one for one in offers if one is not None), None))
    return HopState(name, label, GOOD if service.status == ServiceStatus.OK else OFF, service.status_sentence)


def _room_hop(agent: Agent | None, room: Room | None, message: Message | None) -> HopState:
    mapping: Mapping | None = getattr(agent, "mapping", None) if agent is not None else None

    def red(note: str, offer: Offer | None = None) -> HopState:
        return HopState("room", "Room", TROUBLE, note, offer=offer)

    if room is not None and room.kind == RoomKind.AGENT and agent is None:
        return red("No agent is mapped to this room.", _offer("sync.run"))
    if mapping is not None and (room is None or room.pk == mapping.room_id):
        for issue in issues_about(f"mapping:{mapping.pk}"):
            return red(issue.sentence, offer_of(issue, f"mapping:{mapping.pk}"))
        if mapping.room is None or not mapping.room.room_id or not mapping.account.registered_at:
            return red(mapping.problem or "The agent's account or room has not been made yet.", _offer("sync.run"))
        if mapping.problem:
            return red(mapping.problem, _offer("sync.run"))
    if room is not None and room.encrypted and mode_of(room.homeserver) != "client":
        return red("The room is encrypted; what is written there cannot be read. Use a room without encryption.")
    note = _refused_lately(room, message)
    return HopState("room", "Room", GOOD if not note else WORKING, note)


def _refused_lately(room: Room | None, message: Message | None) -> str:
    """Why the room's latest event became no message, if that is newer than the message that is judged."""
    if room is None or not room.room_id:
        return ""
    since = message.received_at if message is not None else timezone.now() - RECENTLY
    event = (
        RefusedEvent.objects.filter(place=room.room_id, at__gt=since)
        .exclude(reason="own")
        .order_by("-id")
        .values_list("sentence", flat=True)
        .first()
    )
    return f"Later words were not taken in: {event}" if event else ""


def _worker_hop() -> HopState:
    age = worker_age()
    if age is None or age > HEARTBEAT_DEAD:
        note = "No worker reports." if age is None else f"The last worker reported {age:.0f} s ago."
        offers = (offer_of(issue) for issue in open_issues().filter(check_id__in=["worker.alive", "svc.down"]))
        return HopState("worker", "Worker", TROUBLE, note, offer=next((one for one in offers if one is not None), None))
    return HopState("worker", "Worker", GOOD, f"Reported {age:.0f} s ago.")


def _agent_hop(agent: Agent | None) -> HopState:
    if agent is None:
        return HopState("agent", "Agent", TROUBLE, "No agent answers here.", offer=_offer("sync.run"))
    if agent.state == AgentState.ARCHIVED:
        return HopState("agent", "Agent", TROUBLE, f"{agent.name} is archived: it is gone from its server.")
    if agent.paused:
        return HopState(
            "agent", "Agent", TROUBLE, f"{agent.name} is paused.", offer=_offer("agent.resume", f"agent:{agent.pk}")
        )
    note = "Not in the last list of its server." if agent.state == AgentState.MISSING else ""
    return HopState("agent", "Agent", WORKING if note else GOOD, note)


def _own_hop(hop: Hop, message: Message, agent: Agent | None, waiting: Stuck | None) -> HopState:
    state = HopState(hop.name, hop.label, hop.lamp, hop.note, hop.at, hop.after_ms)
    if waiting is not None and waiting.message == message.pk and _is_where(waiting, hop):
        return replace(
            state, lamp=TROUBLE, note=waiting.reason, offer=_offer("agent.diagnose", f"message:{message.pk}")
        )
    if hop.lamp == TROUBLE and message.state != MessageState.HELD:
        return replace(state, offer=_offer("agent.diagnose", f"message:{message.pk}"))
    return state


def _is_where(waiting: Stuck, hop: Hop) -> bool:
    """A lost delivery has no hop of its own: the message's way ends with the answer."""
    return hop.name == waiting.hop or (waiting.kind == "reply" and hop.name == "finished")


def _offer(repair_id: str, target: str = "") -> Offer | None:
    repair = get_repair(repair_id)
    return Offer(repair, target) if repair is not None else None


def _sentence(agent: Agent | None, message: Message | None, hops: list[HopState], red: HopState | None) -> str:
    who = agent.name if agent is not None else "Nobody"
    if red is not None:
        mend = f" {red.offer.repair.button} mends it." if red.offer is not None else ""
        return f"It stops at “{red.label}”: {red.note or 'it failed.'}{mend}"
    if message is None:
        return f"Nothing is wrong; nobody has said anything to {who} yet."
    busy = next((hop for hop in hops if hop.lamp == WORKING), None)
    if busy is not None:
        return f"{who} is at it: {busy.note or busy.label}"
    if not any(hop.name == "finished" and hop.at for hop in hops):
        last = hops[-1]
        return f"The last message is not to be answered: {last.note or last.label}"
    seconds = sum(hop.after_ms or 0 for hop in hops if hop.name not in ("said", "received")) / 1000
    return f"Nothing is wrong: {who} answered the last message within {seconds:.1f} s."
