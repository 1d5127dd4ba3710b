"""The words under which troubles of backends are counted (``ops.Sighting.kind``), and what is known of good answers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

RATE_LIMITED = "rate_limited"
NO_CREDIT = "no_credit"
PROVIDER_REFUSED = "provider_refused"
UNKNOWN_MESSAGE = "unknown_message"
DATABASE_ERROR = "letta_database"

QUOTA_KINDS = (RATE_LIMITED, NO_CREDIT)

# Letta 0.16 answers a failed statement with the first; older ones, and its log, show the statement itself.
_DATABASE_MARKS = ("a database error occurred", "insert or ignore", 'syntax error at or near "or"')
SQLITE_MARKS = ("insert or ignore", 'syntax error at or near "or"')


def is_database_error(words: str) -> bool:
    """Whether an answer of Letta's speaks of a statement that its database refused."""
    lowered = words.lower()
    return any(mark in lowered for mark in _DATABASE_MARKS)


# since -> when each service (by primary key) last answered after that, for those that did.
AnswerSource = Callable[[datetime], dict[int, datetime]]
_answers: list[AnswerSource] = []


def register_answers(source: AnswerSource) -> None:
    """Let the app above say when the agents of each service last answered well."""
    if source not in _answers:
        _answers.append(source)


def answered_since(moment: datetime) -> dict[int, datetime]:
    """When each service (by primary key) last answered after ``moment``; those that did not are left out."""
    found: dict[int, datetime] = {}
    for source in _answers:
        for key, at in source(moment).items():
            found[key] = max(at, found.get(key, at))
    return found
