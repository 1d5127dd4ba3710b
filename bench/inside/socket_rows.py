"""Rows for the socket's benchmarks: people with a program's sign-in, conversations, tickets that last as long as the run."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import Any

from bench.inside import socket_backend
from bench.inside.setup import start

# Fewer than a person may have.
SOCKETS_OF_ONE = 40


def main(sockets: int, words: int = 1, rate: float = 0.0, conversations: bool = True) -> Any:
    """(ticket, conversation or None) for each socket."""
    from django.utils import timezone

    from agents.models import Agent
    from chat.models import Conversation, Membership, Person, ProgramLogin, SocketTicket
    from ops.models import Service

    socket_backend.register()
    now = timezone.now()
    people = Person.objects.bulk_create(
        [Person(username=f"p{secrets.token_hex(6)}", password="!") for _ in range(-(-sockets // SOCKETS_OF_ONE))]
    )
    logins = ProgramLogin.objects.bulk_create(
        [ProgramLogin(person=one, digest=secrets.token_hex(32), expires_at=now + timedelta(days=1)) for one in people]
    )
    texts = [secrets.token_urlsafe(24) for _ in range(sockets)]
    SocketTicket.objects.bulk_create(
        [
            SocketTicket(
                digest=hashlib.sha256(text.encode()).hexdigest(),
                person=people[number // SOCKETS_OF_ONE],
                login=logins[number // SOCKETS_OF_ONE],
                expires_at=now + timedelta(hours=2),
            )
            for number, text in enumerate(texts)
        ],
        batch_size=2000,
    )
    if not conversations:
        return [(text, None) for text in texts]
    service, _ = Service.objects.get_or_create(name="words", kind=socket_backend.KIND)
    Service.objects.filter(pk=service.pk).update(options={"words": words, "rate": rate})
    agent, _ = Agent.objects.get_or_create(service=service, external_id="words", defaults={"name": "Words"})
    places = Conversation.objects.bulk_create(
        [Conversation(title="bench", agent=agent, portal=True) for _ in range(sockets)]
    )
    Membership.objects.bulk_create(
        [Membership(conversation=place, person=people[number // SOCKETS_OF_ONE]) for number, place in enumerate(places)]
    )
    return [(text, place.pk) for text, place in zip(texts, places, strict=True)]


if __name__ == "__main__":
    start(main)
