"""What went wrong at a turn's backend, counted; and what a person is told who would otherwise wait in silence.

Nothing here runs while answers come as they should: no query, no row.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils import timezone

from agents.backends.chunks import Unrecognised
from agents.backends.errors import (
    BackendError,
    BackendNeedsApproval,
    BackendNoCredit,
    BackendRateLimited,
    BackendUnavailable,
    ProviderRefused,
)
from agents.services.troubles import (
    DATABASE_ERROR,
    NO_CREDIT,
    PROVIDER_REFUSED,
    RATE_LIMITED,
    UNKNOWN_MESSAGE,
    is_database_error,
)
from chat.models import Turn
from ops.services.sightings import sighting_count

# A wait that is longer than this is told to the person.
TOLD_AFTER = 45.0


def count_unrecognised(turn: Turn, chunk: Unrecognised) -> None:
    """One reply in which the server said something of a type that nobody here knows."""
    sighting_count(
        service=turn.agent.service.name, kind=UNKNOWN_MESSAGE, label=chunk.type, sample=chunk.sample, agent=_agent(turn)
    )


def count_error(turn: Turn, error: BackendError) -> None:
    """One failure that says something about the agent's provider or its server's database."""
    kind = ""
    if isinstance(error, BackendRateLimited):
        kind = RATE_LIMITED
    elif isinstance(error, BackendNoCredit):
        kind = NO_CREDIT
    elif isinstance(error, ProviderRefused):
        kind = PROVIDER_REFUSED
    elif isinstance(error, BackendUnavailable) and is_database_error(error.reason):
        kind = DATABASE_ERROR
    if kind:
        sighting_count(
            service=turn.agent.service.name,
            kind=kind,
            label=turn.agent.model,
            agent=_agent(turn),
            sample=error.reason,
            until=again_at(error),
        )


def again_at(error: BackendError) -> datetime | None:
    """When the server says that it may be asked again; None when it does not say."""
    if not isinstance(error, BackendRateLimited) or not error.retry_after:
        return None
    return timezone.now() + timedelta(seconds=error.retry_after)


def honest(error: BackendError) -> str:
    """The error's public sentence, with the time at which the provider may be asked again where it said one."""
    public = error.public if error.public.endswith(".") else f"{error.public}."
    until = again_at(error)
    if until is None or (error.retry_after or 0) < 1:
        return public
    return f"{public} It may be asked again at {until:%H:%M} UTC."


def waiting_sentence(turn: Turn, error: BackendError, delay: float) -> str:
    """What to tell the person about a long wait, once a message; "" when there is nothing to tell."""
    if isinstance(error, BackendNeedsApproval) and turn.error_code != error.code:
        return (
            f"{turn.agent.name} waits until somebody allows or denies a tool call in another conversation. "
            "Your message waits, and is answered after that."
        )
    if not isinstance(error, BackendRateLimited) or delay < TOLD_AFTER or turn.error_code == error.code:
        return ""
    until = timezone.now() + timedelta(seconds=delay)
    return f"{error.public} Your message waits; it is answered at about {until:%H:%M} UTC."


def _agent(turn: Turn) -> str:
    return f"agent:{turn.agent_id}"
