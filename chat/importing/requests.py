"""``async_requests.json``: what agents asked each other. It becomes history of a conversation of the two; nobody is asked again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from agents.importing.formats.values import moment, text, unknown_fields
from agents.importing.records import Planned, Raw, Record, rejected
from agents.importing.work import Done, Task, Work, failed
from agents.importing.world import World, chunks
from agents.matrix.markdown import clean_text
from agents.models import Agent, ImportAction, ImportChoice
from chat.models import Conversation, ImportedRow, Message, MessageState, Participant, ParticipantKind, Role
from chat.services.conversations import participant, take_number
from ops.services.audit import record

KIND = "request"
SYSTEM = TRANSPORT = "letta-matrix"
_KNOWN = frozenset(
    {
        *("tracking_id", "from_agent_id", "to_agent_id", "message", "status", "created_at", "timeout_at", "response", "error"),
        *("matrix_event_id", "completed_at"),
    }
)  # fmt: skip
# Its own name for what no agent asked.
NOBODY = "system"
_ENDS = {
    "failed": "The request failed{why}.",
    "timeout": "The agent did not answer in time{why}.",
    "pending": "The answer had not come yet when this was imported.",
}


def read(raw: Raw) -> Record | None:
    """One request; ``None`` for anything else."""
    value = raw.value
    if not isinstance(value, dict) or not {"to_agent_id", "message"} <= set(value):
        return None
    tracking = text(value.get("tracking_id")) or raw.key
    said = clean_text(value["message"]) if isinstance(value["message"], str) else ""
    answer = clean_text(value["response"]) if isinstance(value.get("response"), str) else ""
    one = Record(
        KIND,
        tracking[:200],
        raw,
        {
            "from": text(value.get("from_agent_id")) or NOBODY,
            "to": text(value["to_agent_id"]),
            "message": said,
            "response": answer,
            "status": text(value.get("status")),
            "error": text(value.get("error")),
            "created_at": _iso(value.get("created_at")),
            "completed_at": _iso(value.get("completed_at")),
            "event_id": text(value.get("matrix_event_id")),
        },
        label=" ".join(said.split())[:100] or tracking,
        notes=unknown_fields(value, _KNOWN),
    )
    if not tracking:
        return one.refused("request.no_id", "The request has no tracking_id; without one it could be taken twice.")
    if raw.twice is not None:
        return one.refused("request.repeated", f"It stands in the file again, at line {raw.twice}; that entry counts.")
    if not one.fields["to"]:
        return one.refused("request.no_agent", "The request does not say whom it was for. Add its to_agent_id.")
    if not said.strip():
        return one.refused("request.empty", "Nothing was asked.")
    return one


def _iso(value: Any) -> str:
    found = moment(value) if value is not None else None
    return found.isoformat() if found is not None else ""


def plan(records: Sequence[Record], world: World) -> list[Planned]:
    """In the order in which they were asked, so that the conversations read as they were held."""
    good = [one for one in records if one.problem is None]
    known = _known_agents(world, {agent for one in good for agent in (one.fields["from"], one.fields["to"])})
    here: set[str] = set()
    for some in chunks(name for one in good for name in (one.key, _answer_id(one.key))):
        rows = Message.objects.filter(transport=TRANSPORT, external_id__in=some)
        here.update(rows.values_list("external_id", flat=True))
    ordered = sorted(records, key=lambda one: str(one.fields.get("created_at") or ""))
    return [rejected(one) if one.problem is not None else _plan(one, known, here) for one in ordered]


def _known_agents(world: World, wanted: set[str]) -> set[str]:
    """Which of these agents are here, or come with this import."""
    wanted = wanted - {NOBODY}
    known = set(world.account_agents().values()) & wanted
    for some in chunks(wanted - known):
        known.update(Agent.objects.filter(external_id__in=some).values_list("external_id", flat=True))
    return known


def _plan(one: Record, known: set[str], here: set[str]) -> Planned:
    fields = one.fields
    side = {
        "from": fields["from"],
        "to": fields["to"],
        "status": fields["status"],
        "answered": bool(fields["response"]),
    }
    row = Planned(one, ImportAction.CREATE, file=side, stored=dict.fromkeys(side, ""))
    missing = [agent for agent in (fields["from"], fields["to"]) if agent != NOBODY and agent not in known]
    if missing:
        row.action, row.code = ImportAction.REJECT, "request.unknown_agent"
        row.sentence = f"There is no agent {missing[0][:80]} here. Import its mapping first, then this again."
    elif one.key in here:
        row.stored = dict(side)
        if fields["response"] and _answer_id(one.key) not in here:
            row.action, row.sentence = ImportAction.UPDATE, "It was answered since."
            row.stored["answered"] = False
        else:
            row.action = ImportAction.UNCHANGED
    else:
        row.sentence = "It becomes history of a conversation of the two."
    row.sentence = " ".join(filter(None, [row.sentence, *one.notes]))[:1000]
    return row


def _answer_id(tracking: str) -> str:
    return f"{tracking}:answer"


def apply(work: Work, task: Task) -> Done:
    """Question, answer or the reason why there is none, with the times of then. No turn begins of it."""
    if task.row.choice == ImportChoice.STORED:
        return Done("kept", "What is here was kept.")
    fields = task.fields
    agents = {one.external_id: one for one in _agents({fields["from"], fields["to"]})}
    asked = agents.get(fields["to"])
    asking = agents.get(fields["from"])
    if asked is None or (asking is None and fields["from"] != NOBODY):
        return failed("One of the two agents was not taken over. Its mapping comes first.")
    with transaction.atomic():
        conversation = _conversation(asking, asked, work.actor)
        question = _said(
            conversation,
            task.row.key,
            fields["message"],
            _speaker(conversation, asking),
            Role.USER,
            fields["created_at"],
        )
        end = fields["response"] or _end(fields)
        if end and (fields["response"] or fields["status"] != "pending"):
            role = Role.ASSISTANT if fields["response"] else Role.NOTICE
            speaker = _speaker(conversation, asked)
            at = fields["completed_at"] or fields["created_at"]
            _said(conversation, _answer_id(task.row.key), end, speaker, role, at, question)
        _note(conversation)
    return Done("done", "", f"conversation:{conversation.pk}")


def _end(fields: dict[str, Any]) -> str:
    why = f": {fields['error'].rstrip('.')}" if fields["error"] else ""
    return _ENDS.get(fields["status"], "").format(why=why)


def _agents(external_ids: set[str]) -> list[Agent]:
    """The agents; of two with one id the one that has an account."""
    rows = Agent.objects.filter(external_id__in=external_ids).select_related("mapping").order_by("-mapping__pk", "pk")
    found: dict[str, Agent] = {}
    for agent in rows:
        if agent.external_id not in found or (
            getattr(agent, "mapping", None) is not None and getattr(found[agent.external_id], "mapping", None) is None
        ):
            found[agent.external_id] = agent
    return list(found.values())


def _conversation(asking: Agent | None, asked: Agent, actor: str) -> Conversation:
    """The conversation in which all that one asked the other stands."""
    key = f"{asking.pk if asking is not None else NOBODY}:{asked.pk}"
    known = ImportedRow.objects.filter(system=SYSTEM, source="", kind="pair", key=key).first()
    if known is not None:
        found = Conversation.objects.filter(pk=known.target_id).first()
        if found is not None:
            return found
        known.delete()
    who = asking.name if asking is not None else "Letta-Matrix"
    made = Conversation.objects.create(title=f"{who} → {asked.name}"[:255], titled=True)
    ImportedRow.objects.create(
        system=SYSTEM, source="", kind="pair", key=key, target="chat.Conversation", target_id=str(made.pk)
    )
    record(actor=actor, action="conversation.imported", target=made)
    return made


def _speaker(conversation: Conversation, agent: Agent | None) -> Participant:
    if agent is None:
        return participant(
            conversation.pk, kind=ParticipantKind.GUEST, external_id=f"{SYSTEM}:{NOBODY}", name="Letta-Matrix"
        )
    return participant(
        conversation.pk, kind=ParticipantKind.AGENT, external_id=str(agent.pk), name=agent.name, agent_id=agent.pk
    )


def _said(
    conversation: Conversation,
    external_id: str,
    words: str,
    speaker: Participant,
    role: Role,
    at: str,
    replied: Message | None = None,
) -> Message:
    known = Message.objects.filter(transport=TRANSPORT, external_id=external_id).first()
    if known is not None:
        if known.role == Role.NOTICE and role == Role.ASSISTANT:
            known.role, known.text = role, words
            known.save(update_fields=["role", "text"])
        return known
    now = timezone.now()
    said_at = datetime.fromisoformat(at) if at else None
    return Message.objects.create(
        conversation=conversation,
        seq=take_number(conversation.pk).seq,
        sender=speaker,
        role=role,
        state=MessageState.STORED,
        text=words,
        transport=TRANSPORT,
        external_id=external_id,
        in_reply_to=replied,
        hop=1,
        said_at=said_at,
        received_at=said_at or now,
        stored_at=now,
    )


def _note(conversation: Conversation) -> None:
    """The conversation stands in lists where it was held, not where it was imported."""
    newest = Message.objects.filter(conversation=conversation, said_at__isnull=False).order_by("-said_at").first()
    if newest is not None:
        Conversation.objects.filter(pk=conversation.pk).update(last_message_at=newest.said_at)
