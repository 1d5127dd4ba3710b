"""Limits for a day: set and taken away by operators. What counts against them is in ``chat.services.quotas``."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from agents.models import Agent
from chat.models import Person, PersonRole, Quota
from ops.services.audit import record

_MOST = 2**31 - 1
_MOST_TOKENS = 2**53


def quota_save(
    *,
    person: Person | None = None,
    agent: Agent | None = None,
    role: str = "",
    messages_per_day: int | None,
    tokens_per_day: int | None,
    actor: str,
) -> Quota | None:
    """Limit exactly one of a person, an agent and a role; ``None`` is no limit, 0 nothing at all. Two times ``None`` takes it away.

    Raises ``ValidationError``.
    """
    if sum((person is not None, agent is not None, bool(role))) != 1:
        raise ValidationError("A quota is for one person, one agent, or one role.")
    if role and role not in PersonRole.values:
        raise ValidationError({"role": [f"The role is one of {', '.join(PersonRole.values)}."]})
    for name, value, most in (
        ("messages_per_day", messages_per_day, _MOST),
        ("tokens_per_day", tokens_per_day, _MOST_TOKENS),
    ):
        if value is not None and not 0 <= value <= most:
            raise ValidationError({name: ["Give a whole number from 0 on, or nothing for no limit."]})
    place: dict[str, Any] = {"person": person, "agent": agent, "role": role}
    limits = {"messages_per_day": messages_per_day, "tokens_per_day": tokens_per_day}
    target = person or agent or f"role:{role}"
    with transaction.atomic():
        row = Quota.objects.select_for_update().filter(**place).first()
        before = {name: getattr(row, name) for name in limits} if row is not None else None
        if messages_per_day is None and tokens_per_day is None:
            if row is not None:
                row.delete()
                record(actor=actor, action="quota.removed", target=target, before=before)
            return None
        if before == limits:
            return row
        if row is None:
            row = Quota.objects.create(**place, **limits)
        else:
            Quota.objects.filter(pk=row.pk).update(**limits)
            row.messages_per_day, row.tokens_per_day = messages_per_day, tokens_per_day
        record(actor=actor, action="quota.saved", target=target, before=before, after=limits)
    return row


def quota_remove(*, quota: Quota, actor: str) -> None:
    """Take a limit away."""
    quota_save(
        person=quota.person, agent=quota.agent, role=quota.role, messages_per_day=None, tokens_per_day=None, actor=actor
    )
