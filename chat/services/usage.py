"""Counts what people and agents use, a day (UTC) at a time, in the transactions that store messages and answers.

One statement for each of them, whatever the database. It must be the last one that locks anything in its transaction: many
messages of an agent share a row, and nobody may wait for it longer than a commit takes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from django.db import connection
from django.utils import timezone


@dataclass(frozen=True, slots=True)
class Use:
    """What is to be added for a person (None: whoever is no person here) and an agent."""

    person_id: int | None
    agent_id: int
    messages: int = 0
    answers: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


def count_message(*, person_id: int | None, agent_id: int, day: date | None = None) -> None:
    """One message to an agent."""
    count([Use(person_id, agent_id, messages=1)], day=day)


def count_answer(
    *,
    person_id: int | None,
    agent_id: int,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    answers: int = 1,
    day: date | None = None,
) -> None:
    """An answer of an agent, or (``answers`` 0) the tokens of one that was stopped or waits for approval."""
    use = Use(person_id, agent_id, answers=answers, input_tokens=input_tokens or 0, output_tokens=output_tokens or 0)
    count([use], day=day)


def count(uses: Iterable[Use], *, day: date | None = None) -> None:
    """Add all of these; those of one row together, and always in the same order, so that two transactions cannot lock each other out."""
    day = day or timezone.now().date()
    sums: dict[tuple[int, int], list[int]] = {}
    for use in uses:
        sums.setdefault((use.agent_id, use.person_id or 0), [0, 0, 0, 0])
        held = sums[use.agent_id, use.person_id or 0]
        for place, more in enumerate((use.messages, use.answers, use.input_tokens, use.output_tokens)):
            held[place] += more
    with connection.cursor() as cursor:
        for (agent_id, person_id), numbers in sorted(sums.items()):
            if any(numbers):
                values = [connection.ops.adapt_datefield_value(day), person_id or None, agent_id, *numbers]
                cursor.execute(_OF_PERSON if person_id else _OF_OTHERS, values)


_ADD = """INSERT INTO chat_usageday (day, person_id, agent_id, messages, answers, input_tokens, output_tokens)
VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT {where} DO UPDATE SET
messages = chat_usageday.messages + excluded.messages, answers = chat_usageday.answers + excluded.answers,
input_tokens = chat_usageday.input_tokens + excluded.input_tokens,
output_tokens = chat_usageday.output_tokens + excluded.output_tokens"""
_OF_PERSON = _ADD.format(where="(day, person_id, agent_id) WHERE person_id IS NOT NULL")
_OF_OTHERS = _ADD.format(where="(day, agent_id) WHERE person_id IS NULL")
