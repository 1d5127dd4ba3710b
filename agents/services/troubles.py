"""The words under which troubles of backends are counted (``ops.Sighting.kind``), and what is known of good answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


# (primary keys of agents, since) -> when each last answered well after that; those that did not are left out.
AnswerSource = Callable[[Sequence[int], datetime], dict[int, datetime]]
Relief = Callable[[Sequence[int]], None]
_answers: list[AnswerSource] = []
_reliefs: list[Relief] = []


def register_answers(source: AnswerSource) -> None:
    """Let the app above say when agents last answered well."""
    if source not in _answers:
        _answers.append(source)


def answered_since(agents: Sequence[int], moment: datetime) -> dict[int, datetime]:
    """When these agents last answered well after ``moment``; those that did not are left out."""
    found: dict[int, datetime] = {}
    for source in _answers:
        for key, at in source(agents, moment).items():
            found[key] = max(at, found.get(key, at))
    return found


def register_relief(action: Relief) -> None:
    """Let the app above do what is to be done once something that held these agents back is mended."""
    if action not in _reliefs:
        _reliefs.append(action)


def relieved(agents: Sequence[int]) -> None:
    """What held these agents back is mended: whoever waits because of it need not wait any longer."""
    for action in _reliefs:
        action(agents)
