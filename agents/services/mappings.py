"""Changes what a mapping says: which room is an agent's, and whether the agent still is. Each can be taken back exactly."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping as Map
from datetime import datetime
from typing import Any

from django.core.serializers import deserialize, serialize
from django.db import models, transaction
from django.utils import timezone

from agents.matrix.errors import MatrixError
from agents.models import Agent, AgentState, Invitation, Mapping, Room, RoomKind
from agents.services.backends import Homeserver
from agents.sync.epochs import current_epoch
from agents.sync.takeover import TAKEOVER_FIELDS, newest_event, take_over_from
from ops.logs import get_logger
from ops.services.audit import record

log = get_logger(__name__)

MOST_PREDECESSORS = 20


def rows_kept(*rows: models.Model | Iterable[models.Model]) -> list[dict[str, Any]]:
    """Rows with every column as they are now (JSON), to be put back byte for byte by ``rows_put_back``."""
    flat: list[models.Model] = []
    for one in rows:
        flat += [one] if isinstance(one, models.Model) else list(one)
    kept: list[dict[str, Any]] = serialize("python", flat)
    for item in kept:
        # Django's own JSON drops the microseconds.
        item["fields"] = {
            name: value.isoformat() if isinstance(value, datetime) else value for name, value in item["fields"].items()
        }
    return kept


def rows_put_back(*, kept: list[dict[str, Any]], actor: str, message: str) -> int:
    """Write rows back as they were, those that were deleted as well; returns how many. Nothing is touched besides them."""
    with transaction.atomic():
        found = list(deserialize("python", kept))
        # Two mappings may have each other's rooms.
        Mapping.objects.filter(pk__in=[item.object.pk for item in found if isinstance(item.object, Mapping)]).update(
            room=None
        )
        for item in found:
            # Raw: no time stamp is renewed.
            item.save()
            record(actor=actor, action="mapping.restored", target=item.object, message=message)
    return len(found)


def mapping_relink(
    *,
    mapping: Mapping,
    room_id: str,
    homeserver: Homeserver,
    actor: str,
    reason: str = "",
    since: datetime | None = None,
) -> Mapping:
    """Let ``room_id`` be the agent's room. The conversation goes on there; what was said in it before is not answered.

    ``since`` (the homeserver's clock): what was said there after it is, for it is this talk that went on there (an upgrade). The row
    remembers the room that it named before. Raises ``ValueError`` when the room belongs to another agent, or is a chat that a person opened.
    """
    newest = None if since is not None else _newest(homeserver, mapping, room_id)
    with transaction.atomic():
        mapping = Mapping.objects.select_related("agent", "account", "room").select_for_update(of=("self",)).get(
            pk=mapping.pk
        )  # fmt: skip
        former = mapping.room.room_id if mapping.room is not None else None
        holder = Room.objects.filter(room_id=room_id).first()
        if holder is not None and holder.pk != mapping.room_id:
            if holder.kind != RoomKind.AGENT or Mapping.objects.filter(room=holder).exists():
                raise ValueError(f"{room_id} is in use already ({holder}).")
            # The row that an earlier mapping left behind knows the conversation that was held there.
            mapping.room = holder
            remember_predecessor(holder, former)
        elif mapping.room is None:
            raise ValueError(f"{mapping} has no row for a room; sync makes one.")
        elif mapping.room.room_id != room_id:
            _move(mapping.room, room_id, homeserver)
            if since is not None:
                _go_on_from(mapping.room, since)
            elif newest is not None:
                # With the row, not after it: intake finds the room as soon as it stands there.
                take_over_from(mapping.room, newest)
                mapping.room.save(update_fields=TAKEOVER_FIELDS)
        mapping.problem, mapping.problem_since = "", None
        mapping.save(update_fields=["room", "problem", "problem_since", "updated_at"])
        record(
            actor=actor,
            action="mapping.relinked",
            target=mapping,
            message=reason,
            before={"room_id": former},
            after={"room_id": room_id},
        )
    return mapping


def _newest(homeserver: Homeserver, mapping: Mapping, room_id: str) -> tuple[datetime, str] | None:
    """The newest event of a room that a mapping is to name, ``None`` when it names it already or the homeserver does not say."""
    if mapping.room is None or mapping.room.room_id == room_id:
        return None
    try:
        return newest_event(homeserver, room_id, mapping.account.user_id)
    except MatrixError as error:
        # By our own clock then, which ``_move`` notes.
        log.info("mapping.takeover_not_noted", room=room_id, error=error.sentence[:200])
        return None


def remember_predecessor(room: Room, former: str | None) -> None:
    """The room replaces ``former``: what was said there stays readable, and is found again."""
    if former and former != room.room_id:
        room.predecessors = list(dict.fromkeys([former, *room.predecessors]))[:MOST_PREDECESSORS]
        room.save(update_fields=["predecessors"])


def _go_on_from(room: Room, since: datetime) -> None:
    """Intake walks the room from that moment on."""
    room.taken_over_at = room.last_event_at = since
    room.caught_up_epoch = 0
    room.save(update_fields=["taken_over_at", "last_event_at", "caught_up_epoch"])


def _move(room: Room, room_id: str, homeserver: Homeserver) -> None:
    """The row stands for another Matrix room from now on."""
    Invitation.objects.filter(room=room).delete()
    if room.room_id:
        room.predecessors = list(dict.fromkeys([room.room_id, *room.predecessors]))[:MOST_PREDECESSORS]
    room.room_id, room.name, room.topic = room_id, "", ""
    room.in_space, room.child_order, room.switchboard_joined, room.encrypted = False, "", False, False
    # Only what is said from now on is for us: nobody expects an answer to the words of weeks ago.
    room.caught_up_epoch = current_epoch(homeserver.service)
    room.last_event_id, room.last_event_at = "", timezone.now()
    room.save()


def mappings_swap(*, wanted: Map[int, int | None], actor: str, reason: str) -> None:
    """Give mappings (by id) their rooms' rows (by id, ``None``: none) in one step, also when they have each other's."""
    with transaction.atomic():
        before = dict(Mapping.objects.filter(pk__in=wanted).values_list("pk", "room_id"))
        Mapping.objects.filter(pk__in=wanted).update(room=None)
        for pk, room_pk in wanted.items():
            row = Mapping.objects.get(pk=pk)
            row.room_id = room_pk
            row.save(update_fields=["room", "updated_at"])
            record(
                actor=actor,
                action="mapping.relinked",
                target=row,
                message=reason,
                before={"room": before.get(pk)},
                after={"room": room_pk},
            )


def agents_archive(*, agents: Iterable[Agent], actor: str, reason: str) -> int:
    """Archive agents that are gone from their servers, as sync does; accounts, rooms and conversations stay."""
    count = 0
    with transaction.atomic():
        for agent in agents:
            before = agent.state
            agent.state = AgentState.ARCHIVED
            agent.save(update_fields=["state", "updated_at"])
            record(
                actor=actor,
                action="agent.archived",
                target=agent,
                message=reason,
                before={"state": before},
                after={"state": str(AgentState.ARCHIVED)},
            )
            count += 1
    return count
