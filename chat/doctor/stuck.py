"""What stands still although nothing holds it back: four queries, however many messages there are.

Not here: what waits for something that has a check of its own (a server that is down, turns and dead letters that an operator sees),
what waits for its turn in line, and what an operator wants to wait (a paused agent).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from agents.models import AgentState
from chat.deliveries import run as sending
from chat.models import Delivery, DeliveryState, Message, MessageState, Role, Turn, TurnState
from chat.turns import claim
from ops.models import Service, ServiceStatus
from ops.words import counted

# Somebody who has waited so long for a first word thinks that nobody is there.
SILENT_AFTER = timedelta(seconds=120)
# Work that is due is taken within seconds; see the checks ``turns.moving``.
TAKEN_WITHIN = timedelta(seconds=60)
# Older silence is history, which nobody waits for.
LOOKED_BACK = timedelta(hours=24)
MOST = 2000


@dataclass(frozen=True, slots=True)
class Stuck:
    """One message that is not answered. ``kind`` says which row stands still (``turn``, ``delivery``, ``reply``: an answer that is
    to be sent nowhere, ``message``: one that no turn was made for), ``pk`` is its id, ``hop`` the hop of the message's way."""

    kind: str
    pk: int
    hop: str
    message: int
    agent: int
    agent_name: str
    since: datetime
    reason: str


def stuck(*, agent: int | None = None, room: int | None = None, message: int | None = None) -> list[Stuck]:
    """Everything that is silent, or that of one agent, room or message (ids of rows); the oldest first."""
    now = timezone.now()
    down = _down()
    about = {"agent": agent, "room": room, "message": message}
    found = [
        *_turns(now, down, about),
        *_replies(now, about),
        *_deliveries(now, down, about),
        *_messages(now, about),
    ]
    return sorted(found, key=lambda one: (one.since, one.kind, one.pk))[:MOST]


def _down() -> list[int]:
    """Services that do not answer: their own checks say so."""
    return list(Service.objects.filter(enabled=True, status=ServiceStatus.DOWN).values_list("pk", flat=True))


def _only(about: dict[str, int | None], *, agent: str, room: str, message: str) -> Q:
    """The part of a query that keeps to what was asked about, with each table's own way to it."""
    wanted = Q()
    for name, path in (("agent", agent), ("room", room), ("message", message)):
        if about[name] is not None:
            wanted &= Q(**{path: about[name]})
    return wanted


def _turns(now: datetime, down: list[int], about: dict[str, int | None]) -> Iterable[Stuck]:
    """Turns that were put off although a person waits: tried again and again, or due at some far time."""
    rows = (
        Turn.objects.filter(
            state=TurnState.QUEUED,
            agent__paused=False,
            message__received_at__lt=now - SILENT_AFTER,
            not_before__gt=now + timedelta(seconds=1),
        )
        .filter(_only(about, agent="agent", room="conversation__links__room", message="message"))
        .exclude(agent__service__in=down)
        .filter(~claim.earlier_open())
        .filter(~Exists(Turn.objects.filter(lane=OuterRef("lane"), state=TurnState.RUNNING)))
    )
    for pk, said, agent, name, since, due, attempts, reason in _read(
        rows,
        "pk", "message_id", "agent_id", "agent__name", "message__received_at", "not_before", "attempts", "error_reason",
    ):  # fmt: skip
        tried = f"tried {counted(attempts, 'time')}, {reason}" if attempts and reason else "put off"
        yield Stuck("turn", pk, "started", said, agent, name, since, f"{tried}; next at {due:%Y-%m-%d %H:%M:%S} UTC.")


def _replies(now: datetime, about: dict[str, int | None]) -> Iterable[Stuck]:
    """Answers in a room's conversation that no delivery was made for."""
    shown = Delivery.objects.filter(turn=OuterRef("pk"), speak_as="agent")
    rows = (
        Turn.objects.filter(
            state=TurnState.DONE,
            reply__isnull=False,
            finished_at__gt=now - LOOKED_BACK,
            finished_at__lt=now - SILENT_AFTER,
            conversation__links__room__isnull=False,
        )
        .filter(_only(about, agent="agent", room="conversation__links__room", message="message"))
        .filter(~Exists(shown))
    )
    for pk, said, agent, name, since in _read(
        rows, "pk", "message_id", "agent_id", "agent__name", "message__received_at"
    ):
        yield Stuck("reply", pk, "delivered", said, agent, name, since, "The answer was never put into the outbox.")


def _deliveries(now: datetime, down: list[int], about: dict[str, int | None]) -> Iterable[Stuck]:
    """Answers that are first in line for their room and are not being sent."""
    late = Q(not_before__gt=now + timedelta(seconds=1)) | Q(not_before__lt=now - TAKEN_WITHIN)
    rows = (
        Delivery.objects.filter(
            late,
            state=DeliveryState.QUEUED,
            created_at__lt=now - SILENT_AFTER,
            turn__isnull=False,
        )
        .filter(_only(about, agent="turn__agent", room="room", message="turn__message"))
        .exclude(room__homeserver__in=down)
        .filter(~sending.earlier_open())
    )
    for pk, said, agent, name, since, due, reason in _read(
        rows,
        "pk", "turn__message_id", "turn__agent_id", "turn__agent__name", "turn__message__received_at", "not_before",
        "error_reason",
    ):  # fmt: skip
        why = reason or ("put off" if due > now else "nobody takes it up")
        yield Stuck(
            "delivery", pk, "delivered", said, agent, name, since, f"{why}; due at {due:%Y-%m-%d %H:%M:%S} UTC."
        )


def _messages(now: datetime, about: dict[str, int | None]) -> Iterable[Stuck]:
    """Messages in an agent's room that no guard held back and that no turn was made for."""
    path = "conversation__links__room__mapping__agent"
    rows = (
        Message.objects.filter(
            role=Role.USER,
            state=MessageState.STORED,
            guard="",
            stored_at__gt=now - LOOKED_BACK,
            stored_at__lt=now - SILENT_AFTER,
            **{f"{path}__isnull": False},
        )
        .exclude(**{f"{path}__state": AgentState.ARCHIVED})
        .filter(_only(about, agent=path, room="conversation__links__room", message="pk"))
        .filter(~Exists(Turn.objects.filter(message=OuterRef("pk"))))
    )
    for pk, agent, name, since in _read(rows, "pk", path, f"{path}__name", "received_at"):
        yield Stuck("message", pk, "started", pk, agent, name, since, "No turn was made for it.")


def _read(rows: Any, *columns: str) -> Iterable[tuple[Any, ...]]:
    found: Iterable[tuple[Any, ...]] = rows.order_by("pk").values_list(*columns)[:MOST]
    return found
