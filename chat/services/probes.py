"""A test message: the same way as every other message, with a note in the audit log that an operator sent it."""

from __future__ import annotations

from django.db import transaction

from agents.models import Agent
from chat.models import Person
from chat.services.messages import Sent, message_send
from ops.services.audit import record

LONGEST = 2000


def test_message_send(*, agent: Agent, text: str, person: Person, actor: str) -> Sent:
    """Say something to an agent in its room to see whether it answers. Raises ``CannotSend``."""
    with transaction.atomic():
        sent = message_send(agent=agent, text=text[:LONGEST], person=person)
        record(actor=actor, action="agent.test_message", target=agent, after={"message": sent.message.pk})
    return sent


# Not a test, whatever its name.
test_message_send.__test__ = False  # type: ignore[attr-defined]
