"""Beginning anew with what was said."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db.models import CharField, Max, Q, QuerySet, Value
from django.db.models.functions import Cast, Replace

from agents.models import Room, RoomKind
from agents.resetting.agents import register_held
from chat.models import (
    Attachment,
    ClientPrefix,
    Conversation,
    Delivery,
    ImportedRow,
    Link,
    LinkKind,
    Membership,
    Message,
    Participant,
    ParticipantKind,
    ShareLink,
    Turn,
)
from chat.models.turn import OPEN_TURN_STATES
from chat.restoring.upstream import end_work, work_of
from ops.findings import Finding
from ops.resets import Instead, ResetLine, ResetScope, ResetWork, line_of, register_reset, remove_rows
from ops.words import counted, verb

_BATCH = 200
_WORK = "conversations.work"


def _free() -> QuerySet[Conversation]:
    """Conversations that nothing holds."""
    return Conversation.objects.filter(hold="")


def _on_hold() -> QuerySet[Conversation]:
    return Conversation.objects.exclude(hold="")


def _deliveries() -> QuerySet[Delivery]:
    """All but those of what is held."""
    held = _on_hold()
    stay = Delivery.objects.filter(Q(message__conversation__in=held) | Q(turn__conversation__in=held))
    return Delivery.objects.exclude(pk__in=stay.values("pk"))


def _files() -> QuerySet[Attachment]:
    """All but those of what is held; what was uploaded and never sent goes."""
    return Attachment.objects.filter(Q(conversation__in=_free()) | Q(conversation=None))


def _imports() -> QuerySet[ImportedRow]:
    """What says that something was brought in already, for it may be brought in again; of what is held it stays, which must not be there twice."""
    held = _on_hold()
    dash, nothing = Value("-"), Value("")
    # Databases write the number of a file with dashes, or without.
    rows: QuerySet[Any] = ImportedRow.objects.annotate(plain=Replace("target_id", dash, nothing))
    whole = {
        "chat.Conversation": held,
        "chat.Message": Message.objects.filter(conversation__in=held),
        "chat.Attachment": Attachment.objects.filter(conversation__in=held),
    }
    for label, stay in whole.items():
        plain = stay.annotate(plain=Replace(Cast("pk", CharField()), dash, nothing)).values("plain")
        rows = rows.exclude(target=label, plain__in=plain)
    return rows.filter(target__in=whole)


def _lines() -> list[ResetLine]:
    free = _free()
    return [
        line_of(Message.objects.filter(conversation__in=free), "messages"),
        line_of(free, "conversations (those of rooms stay, empty)"),
        line_of(Turn.objects.filter(conversation__in=free), "turns"),
        line_of(_deliveries(), "deliveries"),
        line_of(_files(), "files"),
        line_of(ShareLink.objects.filter(conversation__in=free), "links to shared conversations"),
    ]


def _held() -> tuple[set[int], set[int]]:
    """Agents and rooms of conversations under a legal hold."""
    held = _on_hold()
    agents = set(Turn.objects.filter(conversation__in=held).values_list("agent_id", flat=True))
    taking_part = Participant.objects.filter(conversation__in=held).values_list("agent_id", flat=True)
    rooms = Link.objects.filter(conversation__in=held).values_list("room_id", flat=True)
    return agents | {one for one in taking_part if one is not None}, {one for one in rooms if one is not None}


register_held(_held)


def _outside() -> Iterable[Finding]:
    rooms = Link.objects.filter(room__room_id__isnull=False, conversation__in=_free()).count()
    if rooms:
        yield Finding(
            "warning",
            "reset.history_stays",
            f"What was said in {counted(rooms, 'room')} stays on the homeserver and in people's apps. It is not read again and not answered again.",
            evidence={"rooms": rooms},
        )
    yield Finding(
        "info",
        "reset.memory_stays",
        "Agents that keep their history themselves (Letta) still remember. Their memory is on their server and is not touched.",
    )
    open_turns = Turn.objects.filter(state__in=OPEN_TURN_STATES, conversation__in=_free()).count()
    if open_turns:
        yield Finding(
            "warning",
            "reset.open_turns",
            f"{counted(open_turns, 'question')} {verb(open_turns, 'waits', 'wait')} for an answer, and will not get one. "
            "What agents' servers are still at for them is ended there.",
        )
    held = _on_hold().count()
    if held:
        yield Finding(
            "info",
            "reset.held_stay",
            f"{counted(held, 'conversation')} under a legal hold {verb(held, 'stays', 'stay')}.",
        )


def _instead() -> Iterable[Instead]:
    yield Instead(
        "Retention removes what is older than you say, after writing it to a file.",
        "python manage.py repair retention.run",
    )


def _draw_lines() -> None:
    """Each room begins behind the newest words of it that we had, on the homeserver's clock: what is sent after them is new, whatever
    stands before is passed over, although no row knows it any more."""
    heard = Message.objects.filter(transport="matrix", conversation__hold="", conversation__links__room__isnull=False)
    rows: Any = heard.order_by().values("conversation__links__room").annotate(at=Max("said_at"))
    newest: dict[int, datetime | None] = {row["conversation__links__room"]: row["at"] for row in rows}
    rooms = Room.objects.exclude(kind=RoomKind.SPACE).filter(room_id__isnull=False, link__conversation__hold="")
    batch: list[Room] = []
    for room in rooms.only("pk", "taken_over_at", "last_event_at").iterator(chunk_size=2000):
        times = [at for at in (room.taken_over_at, room.last_event_at, newest.get(room.pk)) if at is not None]
        if times and max(times) != room.taken_over_at:
            room.taken_over_at = max(times)
            batch.append(room)
    Room.objects.bulk_update(batch, ["taken_over_at"], batch_size=_BATCH)


def _remove(work: ResetWork) -> dict[str, int]:
    """Table by table, in statements of the database: a million messages are no reason to load one of them.

    Conversations of rooms stay, empty: they say which agent a chat is with, and their numbers go on, so that nothing that is sent from
    now on bears an id of before. When agents go as well, these go too.
    """
    free, imports = _free(), _imports()
    work.memory[_WORK] = list(work_of(Turn.objects.filter(state__in=OPEN_TURN_STATES, conversation__in=free)))
    _draw_lines()
    free.update(head=None)
    gone: dict[str, int] = {}
    for rows in (
        imports,
        _deliveries(),
        _files(),
        ClientPrefix.objects.filter(message__conversation__in=free),
        ShareLink.objects.filter(conversation__in=free),
        Membership.objects.filter(conversation__in=free),
        Turn.objects.filter(conversation__in=free),
        Message.objects.filter(conversation__in=free),
    ):
        gone[rows.model._meta.label] = remove_rows(rows)
    shown = Link.objects.filter(kind=LinkKind.ROOM, room__isnull=False)
    keep = Conversation.objects.none() if "agents" in work.scopes else free.filter(pk__in=shown.values("conversation"))
    go = free.exclude(pk__in=keep.values("pk"))
    # What a server keeps of them is begun anew as well.
    Participant.objects.filter(conversation__in=keep).update(backend_ref="")
    people = Participant.objects.filter(conversation__in=keep).exclude(kind=ParticipantKind.AGENT)
    for rest in (
        people,
        Participant.objects.filter(conversation__in=go),
        Link.objects.filter(conversation__in=go),
        go,
    ):
        label = rest.model._meta.label
        gone[label] = gone.get(label, 0) + remove_rows(rest)
    free.update(last_message_at=None, portal=False)
    return gone


def _end_answers(work: ResetWork) -> None:
    """Nobody waits any more for what agents' servers were at when the rows went."""
    end_work(work.memory.get(_WORK, []), say=work.say, progress=work.progress)


register_reset(
    ResetScope(
        name="conversations",
        label="Conversations",
        sentence="Everything that was said, with its files. Rooms, agents and people stay; what is on the homeserver stays there.",
        kind="conversations",
        lines=_lines,
        outside=_outside,
        instead=_instead,
        remove=_remove,
        afterwards=_end_answers,
        order=10,
    )
)
