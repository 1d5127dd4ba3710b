"""What people do over the socket: the same functions that the API calls. Runs in a thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError

from chat.access.grants import NotYours, membership_at
from chat.access.identity import Identity
from chat.api.people.finding import message_at, turn_at
from chat.models import Membership, Message, Person
from chat.services import branches, portal
from chat.services.messages import CannotSend, Sent, message_send
from chat.services.turns import turn_cancel
from chat.turns.follow import read_row
from ops.logs import get_logger
from ops.quiet import refuse_when_quiet

log = get_logger(__name__)

INTERNAL = "internal"
_PORTAL = "portal"
_READ_ONLY = CannotSend(
    "You look at the portal as somebody else; nothing is changed as somebody else.", code="impersonation.read_only"
)
_CHANGES = frozenset({"send", "edit", "regenerate", "show", "stop", "approve", "read", "draft"})


def run(identity: Identity, frame: dict[str, Any]) -> dict[str, Any]:
    """Do a command; returns what ``ok`` carries. Raises what the services raise, see ``trouble``."""
    kind = frame["type"]
    if identity.impersonator and kind in _CHANGES:
        raise _READ_ONLY
    if kind in _CHANGES:
        refuse_when_quiet()
    person = Person.objects.get(pk=identity.person_id)
    return _COMMANDS[kind](person, identity.actor, frame)


def trouble(error: Exception) -> tuple[str, str, dict[str, Any]]:
    """(code, sentence, more fields) of what went wrong."""
    more: dict[str, Any] = {}
    if isinstance(error, ValidationError):
        return "validation", " ".join(error.messages), more
    code, sentence = getattr(error, "code", None), getattr(error, "sentence", None)
    if isinstance(code, str) and isinstance(sentence, str):
        resets = getattr(error, "resets_at", None)
        if resets is not None:
            more["resets_at"] = resets
        message = getattr(error, "message", None)
        if isinstance(message, Message):
            more["message"] = message.pk
        return code, sentence, more
    return INTERNAL, "Switchboard had a fault of its own. It is in its log; try again.", more


def _own_id(person: Person, frame: dict[str, Any]) -> str:
    return f"{person.pk}:{frame['client_id']}"


def _sent(sent: Sent) -> dict[str, Any]:
    return {
        "conversation": sent.message.conversation_id,
        "message": sent.message.pk,
        "seq": sent.message.seq,
        "turn": sent.turn.pk if sent.turn is not None else None,
        "repeated": sent.repeated,
    }


def _send(person: Person, actor: str, frame: dict[str, Any]) -> dict[str, Any]:
    membership = membership_at(person, frame["conversation"])
    conversation = membership.conversation
    if conversation.agent is None:
        raise CannotSend("The agent of this conversation no longer exists. Begin another one.", code="agent.gone")
    parent = None
    if frame.get("parent") is not None:
        parent = Message.objects.filter(pk=frame["parent"], conversation=conversation).first()
        if parent is None:
            raise NotYours(f"There is no message {frame['parent']} in this conversation.")
    sent = message_send(
        agent=conversation.agent,
        text=frame["text"],
        person=person,
        conversation=conversation,
        transport=_PORTAL,
        external_id=_own_id(person, frame),
        parent=parent,
        attachments=frame.get("attachments") or [],
        actor=actor,
    )
    if sent.message.conversation_id != conversation.pk:
        raise CannotSend("This client_id was used in another conversation. Use a new one.", code="client_id.reused")
    if not sent.repeated:
        _seen(membership, sent.message.seq)
    return _sent(sent)


def _seen(membership: Membership, seq: int) -> None:
    membership.conversation.refresh_from_db(fields=["next_seq"])
    portal.membership_read(membership=membership, seq=seq)


def _uuids(texts: list[str]) -> list[UUID]:
    try:
        return [UUID(text) for text in texts]
    except ValueError:
        raise NotYours("There is no such attachment.") from None


def _edit(person: Person, actor: str, frame: dict[str, Any]) -> dict[str, Any]:
    message = message_at(person, frame["message"])
    sent = branches.message_edited(
        message=message, text=frame["text"], person=person, actor=actor, external_id=_own_id(person, frame)
    )
    return _sent(sent)


def _regenerate(person: Person, actor: str, frame: dict[str, Any]) -> dict[str, Any]:
    turn = branches.answer_again(message=message_at(person, frame["message"]), person=person, actor=actor)
    return {"conversation": turn.conversation_id, "turn": turn.pk, "message": turn.message_id}


def _show(person: Person, actor: str, frame: dict[str, Any]) -> dict[str, Any]:
    message = message_at(person, frame["message"])
    shown = branches.head_set(conversation=message.conversation, message=message, actor=actor)
    return {"conversation": shown.pk, "head": shown.head_id, "revision": shown.revision}


def _stop(person: Person, actor: str, frame: dict[str, Any]) -> dict[str, Any]:
    turn = turn_cancel(turn=turn_at(person, frame["turn"]), actor=actor)
    return {"turn": turn.pk, "state": str(turn.state)}


def _approve(person: Person, actor: str, frame: dict[str, Any]) -> dict[str, Any]:
    from chat.services.approvals import approval_decide

    turn = approval_decide(
        turn=turn_at(person, frame["turn"]),
        call_id=frame["call"],
        approve=frame["approve"],
        reason=frame.get("reason") or "",
        actor=actor,
    )
    return {"turn": turn.pk, "state": str(turn.state)}


def _read(person: Person, actor: str, frame: dict[str, Any]) -> dict[str, Any]:
    membership = membership_at(person, frame["conversation"])
    portal.membership_read(membership=membership, seq=frame["seq"])
    return {"conversation": membership.conversation_id, "last_read_seq": membership.last_read_seq}


def _draft(person: Person, actor: str, frame: dict[str, Any]) -> dict[str, Any]:
    membership = membership_at(person, frame["conversation"])
    attachments = [str(one) for one in _uuids(frame.get("attachments") or [])]
    draft = portal.draft_save(membership=membership, text=frame["text"], attachments=attachments, actor=actor)
    return {"conversation": membership.conversation_id, "draft": draft}


def _text(person: Person, actor: str, frame: dict[str, Any]) -> dict[str, Any]:
    turn = turn_at(person, frame["turn"])
    row = read_row(turn.pk)
    if row is None:
        raise NotYours(f"There is no turn {turn.pk}.")
    begin = min(frame.get("from") or 0, len(row.shown))
    return {
        "turn": turn.pk,
        "fence": row.fence,
        "from": begin,
        "text": row.shown[begin:],
        "length": len(row.shown),
        "state": row.state,
        "final": row.final,
    }


_COMMANDS: dict[str, Callable[[Person, str, dict[str, Any]], dict[str, Any]]] = {
    "send": _send,
    "edit": _edit,
    "regenerate": _regenerate,
    "show": _show,
    "stop": _stop,
    "approve": _approve,
    "read": _read,
    "draft": _draft,
    "text": _text,
}
