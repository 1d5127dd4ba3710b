"""An agent is answered by another server from now on: what the former one called our conversations means nothing there."""

from __future__ import annotations

from agents.models import Agent
from agents.services.moving import CannotMove
from chat.models import Participant, Turn, TurnState
from chat.turns.places import GONE


def refuse_while_answering(agent: Agent) -> None:
    """Raises ``CannotMove`` while a turn of the agent runs: it holds on to the former server."""
    if Turn.objects.filter(agent=agent, state=TurnState.RUNNING).exists():
        raise CannotMove(
            f"{agent.name} is answering just now. Try again when it has finished, or stop the answer.",
            code="agent.answering",
        )


def forget_places(agent: Agent) -> None:
    """Each conversation is opened anew on the new server, and told what was said before where that server can be told."""
    # Also where the former server had none: the new one may have, and was told nothing yet.
    Participant.objects.filter(agent=agent).update(backend_ref=GONE)
    # Also turns in the main conversation ("", by its participant): they were not answered in the one that is opened next.
    Turn.objects.filter(agent=agent, started_at__isnull=False).update(backend_ref=GONE)
