"""Whether agents speak with their own accounts: what stands in their rooms is compared with the mapping.

The room itself is read, since it is what people see: an event that carries our mark and belongs to an answer (a turn) must be from the
agent's account. Red while the newest such event is another account's; the agent's next word, or the repair's, ends it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from agents.doctor.matrix.common import GONE, SPOKEN_WITH, homeservers, key_of, opened, service_named
from agents.doctor.matrix.rotation import next_slice
from agents.matrix.errors import HomeserverUnreachable, MatrixError, TokenRefused
from agents.matrix.keys import MARKER
from agents.models import AgentState, Mapping
from agents.services.backends import Homeserver, homeserver_of
from agents.services.identities import canary_send, identity_reassert
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.models import Service
from ops.registry import Affected, CheckOutcome, register_check
from ops.side_by_side import side_by_side
from ops.words import counted, verb

# Rooms in one run: those in which somebody spoke lately, and a slice of the others.
LATELY, SLICE = 40, 20
_LATELY = timedelta(hours=1)
_EVENTS = 30
_FILTER = {"types": ["m.room.message"], "lazy_load_members": True}


@dataclass(frozen=True, slots=True)
class Voice:
    """Whose words an agent's answers in its room are. ``wrong`` lists the events of other accounts, newest first."""

    mapping: int
    own: int
    wrong: tuple[dict[str, str], ...]
    # The newest of our events is another account's.
    red: bool

    @property
    def sender(self) -> str:
        return self.wrong[0]["sender"] if self.wrong else ""


def mappings_of(service: Service) -> QuerySet[Mapping]:
    """The agents that have a room to speak in."""
    rows = Mapping.objects.filter(account__homeserver=service, account__registered_at__isnull=False)
    return rows.filter(room__room_id__isnull=False).exclude(agent__state=AgentState.ARCHIVED)


def listen(homeserver: Homeserver, rows: dict[int, tuple[str, str]]) -> dict[int, Voice]:
    """Read the newest events of rooms: ``{mapping: (room id, user id)}``. Rooms that cannot be read are left out.

    Raises ``MatrixError`` only when the homeserver is gone or refuses our token.
    """
    found: dict[int, Voice] = {}
    keys = list(rows)
    answers = side_by_side(lambda key: _read(homeserver, *rows[int(key)]), [str(key) for key in keys])
    for key, events in zip(keys, answers, strict=True):
        if events is not None:
            found[key] = _voice(key, events, rows[key][1])
    return found


def _read(homeserver: Homeserver, room_id: str, user_id: str) -> list[dict[str, Any]] | None:
    try:
        return homeserver.client.messages(room_id, user_id=user_id, limit=_EVENTS, filter=_FILTER).chunk
    except (HomeserverUnreachable, TokenRefused):
        raise
    except MatrixError:
        # The agent is not in its room, or is not there at all: other checks say so.
        return None


def _voice(mapping: int, events: list[dict[str, Any]], user_id: str) -> Voice:
    own, wrong, red = 0, [], None
    for event in events:
        content, sender = event.get("content"), event.get("sender")
        mark = content.get(MARKER) if isinstance(content, dict) else None
        if not isinstance(mark, dict) or not isinstance(sender, str):
            continue
        if sender == user_id:
            own += 1
            red = False if red is None else red
        elif mark.get("turn"):
            wrong.append({"event_id": str(event.get("event_id") or ""), "sender": sender})
            red = True if red is None else red
    return Voice(mapping, own, tuple(wrong), bool(red))


@register_check(
    "identity.wrong_sender",
    title="Agents speak with their own accounts",
    tags=("matrix", "agents"),
    interval=300,
    severity="error",
    timeout=60,
    scope="service",
    targets=homeservers,
    depends_on=SPOKEN_WITH,
    repairs=("identity.speak_again",),
)
def wrong_sender(target: str) -> CheckOutcome:
    """Red when an agent's newest answer in its room stands there as somebody else's, Switchboard's own account's most likely.

    At most 60 rooms in a run (and those that were red before), one request each: rooms with news first, then one after the other.
    """
    service = service_named(target)
    if service is None:
        return GONE
    rows = mappings_of(service)
    lately = rows.filter(room__last_event_at__gt=timezone.now() - _LATELY).order_by("-room__last_event_at")
    part = next_slice(
        "identity.wrong_sender", target, rows, size=SLICE, first=lately.values_list("pk", flat=True)[:LATELY]
    )
    known = _places(rows, part.keys)
    agents = dict(rows.filter(pk__in=part.keys).values_list("pk", "agent_id"))
    try:
        voices = listen(homeserver_of(service), known)
    except MatrixError as error:
        return CheckOutcome("fail", f"The rooms could not be read. {error.sentence}", {"errcode": error.code})
    red = {key: voice for key, voice in voices.items() if voice.red}
    heard = sum(voice.own for voice in voices.values())
    wrong = sum(len(voice.wrong) for voice in voices.values())
    evidence = {
        **part.evidence(red),
        "own": heard,
        "wrong": wrong,
        "as_itself_percent": round(100 * heard / (heard + wrong)) if heard + wrong else 100,
        "events": [{"agent": agents[key], **one} for key, voice in red.items() for one in voice.wrong[:3]][:20],
    }
    if not red:
        return CheckOutcome(
            "pass",
            f"In the {counted(len(voices), 'room that was', 'rooms that were')} read every agent speaks as itself.",
            evidence,
        )
    affected = tuple(
        Affected(
            f"agent:{agents[key]}",
            f"{len(voice.wrong)} of its last answers {verb(len(voice.wrong), 'stands', 'stand')} in its room as {voice.sender}'s.",
            {"events": list(voice.wrong[:10]), "own": voice.own},
        )
        for key, voice in red.items()
    )
    first = next(iter(red.values()))
    return CheckOutcome(
        "fail",
        f"{counted(len(red), 'agent speaks', 'agents speak')} with an account that is not {verb(len(red), 'its own', 'theirs')} (the first as {first.sender}). "
        "People see the wrong name, and "
        "clients show the answers as somebody else's. Let them speak as themselves again.",
        evidence,
        affected,
    )


def _places(rows: QuerySet[Mapping], keys: tuple[int, ...]) -> dict[int, tuple[str, str]]:
    found = rows.filter(pk__in=keys).values_list("pk", "room__room_id", "account__user_id")
    return {pk: (str(room), user) for pk, room, user in found}


def _aimed(work: RepairWork, homeserver: Homeserver) -> QuerySet[Mapping]:
    rows = mappings_of(homeserver.service)
    agent, mapping = key_of(work.target, "agent"), key_of(work.target, "mapping")
    if agent is not None:
        return rows.filter(agent_id=agent)
    if mapping is not None:
        return rows.filter(pk=mapping)
    named = [key for key in (key_of(one, "agent") for one in work.affected) if key is not None]
    if named:
        return rows.filter(agent_id__in=named)
    lately = rows.filter(room__last_event_at__gt=timezone.now() - _LATELY).order_by("-room__last_event_at")
    keys = list(lately.values_list("pk", flat=True)[: 10 * LATELY]) or list(
        rows.values_list("pk", flat=True)[: 10 * LATELY]
    )
    return rows.filter(pk__in=keys)


def _plan(work: RepairWork) -> Plan:
    homeserver = opened(work.target)
    rows = _aimed(work, homeserver)
    try:
        voices = listen(homeserver, _places(rows, tuple(rows.values_list("pk", flat=True))))
    except MatrixError as error:
        raise RepairRefused(error.sentence) from error
    red = [voice for voice in voices.values() if voice.red]
    if not red:
        return Plan("Every agent that was looked at speaks as itself.")
    names = dict(rows.filter(pk__in=[one.mapping for one in red]).values_list("pk", "account__user_id"))
    agents = dict(rows.filter(pk__in=list(names)).values_list("pk", "agent_id"))
    changes = tuple(
        Change(f"agent:{agents[one.mapping]}", "speaks in its room as", one.sender, names[one.mapping]) for one in red
    )
    return Plan(
        f"Put right account, profile and membership of {counted(len(red), 'agent')}; each says so in its room in one sentence, "
        "which is read back. "
        "What was said under the wrong name stays as it is.",
        changes,
        {"mappings": [one.mapping for one in red]},
        {"canaries": {}},
    )


def _apply(work: RepairWork) -> dict[str, Any]:
    homeserver = opened(work.target)
    canaries: dict[str, str] = {}
    failed: dict[str, str] = {}
    wanted = work.plan.data["mappings"]
    rows = Mapping.objects.filter(pk__in=wanted)
    for number, mapping in enumerate(rows.select_related("agent__service", "account", "room"), start=1):
        assert mapping.room is not None
        try:
            done = identity_reassert(homeserver=homeserver, mapping=mapping, actor=work.actor)
            if done.rung == "stuck" or not done.in_room:
                failed[mapping.account.user_id] = done.sentence or "It does not come into its room."
                continue
            # One sentence a run, however often it is tried.
            txn = f"sb.canary.{work.run.pk if work.run is not None else 0}.{mapping.pk}"
            canaries[str(mapping.pk)] = canary_send(
                homeserver=homeserver, room=mapping.room, account=mapping.account, txn_id=txn
            )
            work.remember(canaries=canaries)
        except MatrixError as error:
            failed[mapping.account.user_id] = error.sentence
        work.progress(number, len(wanted), mapping.account.user_id)
    if not canaries:
        raise RepairFailed(f"No agent could be put right. {next(iter(failed.values()), '')}".strip())
    return {"said": canaries, "failed": failed}


def _undo(work: RepairWork) -> None:
    homeserver = opened(work.target)
    for key, event_id in (work.snapshot.get("canaries") or {}).items():
        mapping = Mapping.objects.filter(pk=int(key)).select_related("account", "room").first()
        if mapping is None or mapping.room is None or not mapping.room.room_id:
            continue
        homeserver.client.redact(
            mapping.room.room_id, event_id, txn_id=f"sb.uncanary.{event_id[-60:]}", user_id=mapping.account.user_id
        )


register_repair(
    "identity.speak_again",
    title="Let agents speak with their own accounts",
    repair_class="C",
    button="Let them speak as themselves",
    explain=(
        "Puts right the agent's account, its name and picture and its place in the room, and lets it say one sentence there, which is "
        "read back from the homeserver: the sender must be the agent. Nothing is sent again. Undoing removes that sentence."
    ),
    plan=_plan,
    apply=_apply,
    undo=_undo,
    target_kinds=("agent", "mapping"),
)
