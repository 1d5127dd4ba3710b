"""What keeps a message from being answered: loops, floods, quiet rooms. The message itself is always kept.

A guard that silences a person tells them so once (``Incoming.notice``); one that silences a machine does not.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict, deque
from datetime import datetime, timedelta

from django.conf import settings

from agents.models import Agent, Room
from chat.intake.incoming import Incoming
from chat.models import Conversation, Message, ParticipantKind, Turn
from chat.services import quotas
from ops.words import counted

MINUTE = timedelta(minutes=1)


def apply_guards(incoming: Incoming, *, conversation: Conversation, agent: Agent | None, room: Room | None) -> None:
    """Set ``incoming.guard`` (and a notice) when the message must not start a turn. The first guard that speaks wins."""
    if incoming.guard:
        return
    if agent is None:
        incoming.guard = "no_agent"
    elif len(incoming.text) > settings.MAX_MESSAGE_CHARS:
        incoming.guard = "too_long"
        incoming.notice = (
            f"Your message has {len(incoming.text):,} characters; {agent.name} is given at most "
            f"{settings.MAX_MESSAGE_CHARS:,}. Please send less."
        )
    elif room is not None and room.quiet and not is_mentioned(incoming, agent):
        incoming.guard = "quiet"
    elif incoming.sender_kind == ParticipantKind.AGENT:
        _guard_agents(incoming, conversation)
        if not incoming.guard:
            _guard_quota(incoming, agent)
    elif _is_fanout(incoming, conversation):
        incoming.guard = "fan_out"
        if _first_notice(incoming.sender_id):
            incoming.notice = (
                f"You have said the same to more than {counted(settings.FANOUT_LIMIT, 'agent')} within a minute. "
                "The rest is kept but not answered; wait a minute, or say it to fewer."
            )
    else:
        _guard_quota(incoming, agent)


def is_mentioned(incoming: Incoming, agent: Agent) -> bool:
    """True when the message names the agent: by a Matrix mention, or by its name in the text."""
    if agent.account is not None and agent.account.user_id in incoming.mentions:
        return True
    return bool(agent.name) and agent.name.casefold() in incoming.text.casefold()


def _guard_agents(incoming: Incoming, conversation: Conversation) -> None:
    """Agents may answer each other a few times; then a person has to speak."""
    last = (
        Message.objects.filter(conversation=conversation, role="user")
        .order_by("-seq")
        .values_list("hop", "sender__kind")
        .first()
    )
    if last is not None and last[1] == ParticipantKind.AGENT:
        incoming.hop = max(incoming.hop, last[0] + 1)
    incoming.hop = max(incoming.hop, 1)
    if incoming.hop > settings.MAX_HOPS:
        incoming.guard = "hop_limit"
        return
    recent = Turn.objects.filter(
        conversation=conversation,
        message__sender__kind=ParticipantKind.AGENT,
        created_at__gt=incoming.received_at - MINUTE,
    ).count()
    if recent >= settings.AGENT_REPLIES_PER_MINUTE:
        incoming.guard = "reply_limit"


def _guard_quota(incoming: Incoming, agent: Agent) -> None:
    """A day's limit is reached. Whoever wrote is told each time: one notice for each message that stays without an answer."""
    try:
        quotas.check(person=incoming.person_id, agent=agent)
    except quotas.OverQuota as over:
        incoming.guard = over.code
        if incoming.sender_kind != ParticipantKind.AGENT:
            incoming.notice = over.sentence


class _RecentTexts:
    """Who said what lately in how many conversations: a cheap first look, so that the database is asked only when it matters."""

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._seen: OrderedDict[bytes, deque[tuple[float, int]]] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, sender: str, text: str, conversation_id: int) -> int:
        """Remember one message; returns in how many conversations it was said within the last minute, as far as we saw."""
        key = hashlib.blake2b(f"{sender}\0{text}".encode(errors="replace"), digest_size=12).digest()
        now = time.monotonic()
        with self._lock:
            said = self._seen.setdefault(key, deque())
            self._seen.move_to_end(key)
            while said and said[0][0] < now - MINUTE.total_seconds():
                said.popleft()
            said.append((now, conversation_id))
            while len(self._seen) > self._limit:
                self._seen.popitem(last=False)
            return len({conversation for _, conversation in said})


_recent = _RecentTexts()
_notices: dict[str, float] = {}


def _is_fanout(incoming: Incoming, conversation: Conversation) -> bool:
    seen = _recent.note(incoming.sender_id, incoming.text, conversation.pk)
    # Other processes see their share of the messages; the database knows them all.
    if seen * 4 <= settings.FANOUT_LIMIT:
        return False
    others = said_elsewhere(incoming.sender_id, incoming.text, incoming.received_at, conversation.pk)
    return others >= settings.FANOUT_LIMIT


def said_elsewhere(sender_id: str, text: str, now: datetime, conversation_id: int) -> int:
    """In how many other conversations the same sender said the same within the last minute, and was to be answered."""
    return (
        Message.objects.filter(stored_at__gt=now - MINUTE, text=text, sender__external_id=sender_id, guard="")
        .exclude(conversation_id=conversation_id)
        .values("conversation_id")
        .distinct()
        .count()
    )


def _first_notice(sender: str) -> bool:
    now = time.monotonic()
    if now - _notices.get(sender, -1e9) < MINUTE.total_seconds():
        return False
    if len(_notices) > 10_000:
        _notices.clear()
    _notices[sender] = now
    return True
