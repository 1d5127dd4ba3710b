"""Allowing and refusing tool calls that agents ask for. See ``chat.turns.waiting`` for how they are kept."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from chat import live
from chat.deliveries import outbox
from chat.models import OPEN_TURN_STATES, Conversation, Link, Turn, TurnState
from chat.services.notices import notice_store
from chat.services.turns import WrongState
from chat.turns.waiting import pending
from chat.wakeup import wake_deliveries, wake_turns
from ops.services.audit import record

_COMMAND = re.compile(r"!(approve|deny)\b[\s:,]*(.*)\Z", re.IGNORECASE | re.DOTALL)
AT_ONCE = 100


def approval_decide(*, turn: Turn, call_id: str, approve: bool, reason: str = "", actor: str) -> Turn:
    """Allow or refuse one call. With the last of them the answer goes on. The same word twice is one.

    Raises ``WrongState`` for a turn that does not wait, a call that it does not ask for, and one that was decided otherwise.
    """
    with transaction.atomic():
        locked = Turn.objects.select_for_update().get(pk=turn.pk)
        known = next((one for one in reversed(locked.approvals) if one["id"] == call_id), None)
        if known is None:
            raise WrongState(f"Turn {turn.pk} asks for no call {call_id!r}.")
        if known["approve"] is not None:
            if known["approve"] != approve:
                word = "allowed" if known["approve"] else "refused"
                raise WrongState(f"{known['name']} was {word} already by {known['by'] or 'somebody'}.")
        elif locked.state != TurnState.WAITING_APPROVAL:
            raise WrongState(f"Turn {turn.pk} is {locked.get_state_display().lower()}; it does not wait for approval.")
        else:
            _decide(locked, [known], approve, reason, actor)
    turn.refresh_from_db()
    return turn


def _decide(turn: Turn, calls: list[dict[str, Any]], approve: bool, reason: str, actor: str) -> None:
    """Write the word into the locked row; when none waits any more, the turn goes back in line."""
    now = timezone.now()
    for call in calls:
        call |= {"approve": approve, "by": actor[:255], "reason": reason[:2000], "at": now.isoformat()}
        record(
            actor=actor,
            action="approval.granted" if approve else "approval.denied",
            target=turn,
            message=f"{call['name']}: {reason}" if reason else call["name"],
        )
    fields = ["approvals"]
    if not pending(turn):
        turn.state, turn.not_before, turn.attempts = TurnState.QUEUED, now, 0
        fields += ["state", "not_before", "attempts"]
        transaction.on_commit(partial(wake_turns, [turn.pk]))
    turn.save(update_fields=fields)
    live.turn_changed(turn)


def word_in(text: str) -> tuple[bool, str] | None:
    """What ``!approve`` or ``!deny …`` says: the word and its reason; None for any other text."""
    found = _COMMAND.match(text.strip())
    return (found[1].lower() == "approve", found[2].strip()) if found else None


def waiting_in(conversation_id: int) -> Turn | None:
    """The turn of a conversation that waits for approval."""
    return Turn.objects.filter(conversation_id=conversation_id, state=TurnState.WAITING_APPROVAL).order_by("id").first()


def decide_all(*, turn: Turn, approve: bool, reason: str = "", actor: str) -> Turn:
    """One word for all calls that wait. Does nothing for a turn that does not wait any more."""
    with transaction.atomic():
        locked = Turn.objects.select_for_update().get(pk=turn.pk)
        if locked.state == TurnState.WAITING_APPROVAL:
            _decide(locked, pending(locked), approve, reason, actor)
    turn.refresh_from_db()
    return turn


def expire() -> int:
    """Refuse what nobody decided in time, and say so. Returns how many turns. Safe to run anywhere, any time, twice."""
    due = _waiting().filter(not_before__lte=timezone.now()).values_list("pk", "conversation_id")[:AT_ONCE]
    count = 0
    for pk, conversation_id in list(due):
        with transaction.atomic():
            # Conversation before turn, as whoever stores a message locks them.
            Conversation.objects.select_for_update().get(pk=conversation_id)
            turn = (
                Turn.objects.select_for_update(of=("self",))
                .select_related("agent__mapping__account", "conversation", "message")
                .get(pk=pk)
            )
            if turn.state != TurnState.WAITING_APPROVAL or turn.not_before > timezone.now():
                continue
            calls = pending(turn)
            names = ", ".join(call["name"] for call in calls)
            _decide(turn, calls, False, "Nobody decided in time.", "system")
            _tell(turn, f"Nobody allowed {names} in time, so it was denied. {turn.agent.name} goes on without it.")
            count += 1
    return count


def _tell(turn: Turn, sentence: str) -> None:
    links = Link.objects.filter(conversation_id=turn.conversation_id, room__isnull=False).select_related("room")
    rooms = [link.room for link in links if link.room is not None]
    for room in rooms:
        row = outbox.notice(turn.conversation, room, sentence, about=turn.message, account=turn.agent.account)
        transaction.on_commit(partial(wake_deliveries, [row.pk]))
    if not rooms:
        notice_store(turn.conversation_id, sentence, about=turn.message)


def waiting_longer_than(minutes: float) -> QuerySet[Turn]:
    """Turns that have been waiting for approval for so long, the longest first."""
    from django.conf import settings

    asked_before = timezone.now() - timedelta(minutes=minutes)
    # ``not_before`` of a waiting turn is when it is denied.
    latest = asked_before + timedelta(seconds=settings.APPROVAL_TIMEOUT)
    return _waiting().filter(not_before__lte=latest).select_related("agent", "conversation").order_by("not_before")


def _waiting() -> QuerySet[Turn]:
    """Turns that wait, by the partial index of open ones: its states stand in the statement itself, see ``chat.queries``."""
    words = ", ".join(f"'{TurnState(state).value}'" for state in OPEN_TURN_STATES)
    return Turn.objects.extra(where=[f"chat_turn.state IN ({words})"]).filter(state=TurnState.WAITING_APPROVAL)  # noqa: S610
