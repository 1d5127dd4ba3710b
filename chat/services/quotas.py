"""How much a person may use in a day (UTC), and how much all together of an agent; asked before a message is answered."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, Sum
from django.utils import timezone

from agents.models import Agent
from chat.models import Person, PersonRole, Quota, UsageDay
from ops.services.audit import record
from ops.words import counted

CACHE_SECONDS = 2.0


class OverQuota(Exception):
    """Today's limit is reached. ``sentence`` says which and until when; ``code``: ``quota.messages`` or ``quota.tokens``."""

    def __init__(self, sentence: str, *, code: str, resets_at: datetime) -> None:
        super().__init__(sentence)
        self.sentence, self.code, self.resets_at = sentence, code, resets_at


@dataclass(frozen=True, slots=True)
class Used:
    """What was used today."""

    messages: int = 0
    tokens: int = 0


def check(*, person: Person | int | None, agent: Agent) -> None:
    """Raises ``OverQuota`` when one more message would be beyond a limit. Costs no query while there are no quotas.

    ``person`` is a person or their id; without one only the agent's own limit counts.
    """
    if not _any_quotas():
        return
    if isinstance(person, int):
        person = Person.objects.filter(pk=person).first()
    now = timezone.now()
    which = Q(agent=agent)
    if person is not None:
        which |= Q(person=person) | Q(role=person.role)
    rows = list(Quota.objects.filter(which))
    for_person = [row for row in rows if row.agent_id is None]
    if for_person and person is not None:
        used = used_today(UsageDay.objects.filter(person=person), now.date())
        _compare(_tightest(for_person), used, "You have", now, person)
    for_agent = [row for row in rows if row.agent_id is not None]
    if for_agent:
        used = used_today(UsageDay.objects.filter(agent=agent), now.date())
        _compare(_tightest(for_agent), used, f"All together have with {agent.name}", now, person)


def _compare(limits: dict[str, int | None], used: Used, who: str, now: datetime, person: Person | None) -> None:
    messages, tokens = limits["messages"], limits["tokens"]
    if messages is not None and used.messages >= messages:
        what, code = counted(messages, "message"), "quota.messages"
    elif tokens is not None and used.tokens >= tokens:
        what, code = counted(tokens, "token"), "quota.tokens"
    else:
        return
    reset = resets_at(now)
    raise OverQuota(
        f"{who} used up today's {what}. Your message is kept, but not answered. {_again(reset, person)}",
        code=code,
        resets_at=reset,
    )


def _again(reset: datetime, person: Person | None) -> str:
    try:
        zone: Any = ZoneInfo(person.time_zone) if person is not None and person.time_zone else UTC
    except (KeyError, ValueError, OSError):
        zone = UTC
    local = reset.astimezone(zone)
    name = "UTC" if zone is UTC else str(zone).replace("_", " ")
    return f"The limit begins anew at {local:%H:%M} ({name}, {local:%-d %B})."


def used_today(rows: Any, day: date) -> Used:
    """The sum of these usage rows for a day."""
    sums = rows.filter(day=day).aggregate(
        messages=Sum("messages", default=0), tokens=Sum("input_tokens", default=0) + Sum("output_tokens", default=0)
    )
    return Used(int(sums["messages"]), int(sums["tokens"]))


def standing(person: Person) -> dict[str, Any]:
    """For a person's own page: ``{"messages": {"used", "limit"}, "tokens": {"used", "limit"}, "resets_at"}``; limit None: none."""
    now = timezone.now()
    limits = _tightest(list(Quota.objects.filter(Q(person=person) | Q(role=person.role))))
    used = used_today(UsageDay.objects.filter(person=person), now.date())
    return {
        "messages": {"used": used.messages, "limit": limits["messages"]},
        "tokens": {"used": used.tokens, "limit": limits["tokens"]},
        "resets_at": resets_at(now),
    }


def _tightest(rows: list[Quota]) -> dict[str, int | None]:
    messages = [row.messages_per_day for row in rows if row.messages_per_day is not None]
    tokens = [row.tokens_per_day for row in rows if row.tokens_per_day is not None]
    return {"messages": min(messages, default=None), "tokens": min(tokens, default=None)}


def resets_at(now: datetime | None = None) -> datetime:
    """When today's limits begin anew: the next midnight UTC."""
    now = (now or timezone.now()).astimezone(UTC)
    return now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def quota_set(
    *,
    actor: str,
    person: Person | None = None,
    agent: Agent | None = None,
    role: PersonRole | str = "",
    messages_per_day: int | None = None,
    tokens_per_day: int | None = None,
) -> Quota | None:
    """Set the limits of exactly one of person, agent and role. Without any limit the quota is removed (returns None).

    Raises ``ValidationError``.
    """
    if sum(bool(one) for one in (person, agent, role)) != 1:
        raise ValidationError("A quota is for exactly one of person, agent and role.")
    if any(limit is not None and limit < 0 for limit in (messages_per_day, tokens_per_day)):
        raise ValidationError("A limit cannot be below 0.")
    if role and role not in PersonRole.values:
        raise ValidationError(f"There is no role {role!r}.")
    which: dict[str, Any] = {"person": person} if person else {"agent": agent} if agent else {"role": str(role)}
    limits = {"messages_per_day": messages_per_day, "tokens_per_day": tokens_per_day}
    with transaction.atomic():
        known = Quota.objects.select_for_update().filter(**which).first()
        before = {name: getattr(known, name) for name in limits} if known is not None else None
        if messages_per_day is None and tokens_per_day is None:
            if known is not None:
                record(actor=actor, action="quota.removed", target=known, before=before)
                known.delete()
            row = None
        else:
            row, _ = Quota.objects.update_or_create(**which, defaults=limits)
            if before != limits:
                record(actor=actor, action="quota.set", target=row, before=before, after=limits)
    forget()
    return row


_known: tuple[float, bool] = (float("-inf"), False)
_lock = threading.Lock()


def _any_quotas() -> bool:
    """Whether there is a quota at all, as of at most two seconds ago: nearly always there is none, and the hot path asks."""
    global _known
    now = time.monotonic()
    if now - _known[0] < CACHE_SECONDS:
        return _known[1]
    with _lock:
        found = Quota.objects.exists()
        _known = (now, found)
    return found


def forget() -> None:
    """Look again at the next question."""
    global _known
    _known = (float("-inf"), False)
