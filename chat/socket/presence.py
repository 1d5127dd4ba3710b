"""Who else is looking at a conversation, and who is typing: told through the channel layer only, never kept."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from chat import live
from chat.socket.protocol import encode

if TYPE_CHECKING:
    from chat.socket.connection import Connection
    from chat.socket.hub import Hub
    from chat.socket.watched import Watched

# A process says so often that its people are still here; without a word they are gone after a little more than two.
SAY_EVERY = 20.0
FORGOTTEN_AFTER = 50.0
# One typing notice of a person in this many seconds goes out.
TYPING_EVERY = 2.0


class Presence:
    """By conversation: which people which process says to hold. Only where several have the conversation."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._here: dict[int, dict[tuple[str, int], tuple[str, float]]] = {}
        self._said_at = 0.0
        self._typed: dict[tuple[int, int], float] = {}
        self._told: dict[int, str] = {}

    def came(self, watched: Watched, connection: Connection) -> None:
        """A socket follows a conversation now."""
        if watched.people > 1:
            self._say(watched, connection, here=True, ask=True)
            text = self._told.get(watched.id)
            if text is not None:
                connection.push(text)

    def went(self, watched: Watched, connection: Connection) -> None:
        """A socket follows it no longer."""
        identity = connection.identity
        if watched.people > 1 and identity is not None and identity.person_id not in _people_of(watched):
            self._say(watched, connection, here=False)

    def forget(self, conversation_id: int) -> None:
        """Nobody here follows it any more."""
        self._here.pop(conversation_id, None)
        self._told.pop(conversation_id, None)

    def typing(self, watched: Watched, connection: Connection) -> None:
        """A person types."""
        identity = connection.identity
        assert identity is not None
        key, now = (watched.id, identity.person_id), time.monotonic()
        if now - self._typed.get(key, 0.0) < TYPING_EVERY:
            return
        if len(self._typed) > 10_000:
            self._typed.clear()
        self._typed[key] = now
        live.publish(watched.id, {"type": "typing", "person": identity.person_id, "name": connection.name})

    def _say(self, watched: Watched, connection: Connection, *, here: bool, ask: bool = False) -> None:
        identity = connection.identity
        assert identity is not None
        live.publish(
            watched.id,
            {
                "type": "presence",
                "process": self._hub.key,
                "person": identity.person_id,
                "name": connection.name,
                "here": here,
                "ask": ask,
            },
        )

    def take(self, watched: Watched, frame: dict[str, Any]) -> None:
        """What a process said, this one included."""
        if frame["type"] == "typing":
            text = encode(
                {
                    "type": "typing",
                    "conversation": watched.id,
                    "person": {"id": frame["person"], "name": frame["name"]},
                }
            )
            for connection, subscription in list(watched.subscriptions.items()):
                if subscription.begun and connection.person_id != frame["person"]:
                    connection.push(text)
            return
        here = self._here.setdefault(watched.id, {})
        key = (frame["process"], frame["person"])
        if frame["here"]:
            here[key] = (frame["name"], time.monotonic())
        else:
            here.pop(key, None)
        if frame["ask"] and frame["process"] != self._hub.key:
            self._say_all(watched)
        self._tell(watched)

    def _say_all(self, watched: Watched) -> None:
        for connection in {one.person_id: one for one in watched.subscriptions}.values():
            self._say(watched, connection, here=True)

    def _tell(self, watched: Watched) -> None:
        people = {person: name for (_, person), (name, _) in sorted(self._here.get(watched.id, {}).items())}
        text = encode(
            {
                "type": "presence",
                "conversation": watched.id,
                "people": [{"id": person, "name": name} for person, name in sorted(people.items())],
            }
        )
        if self._told.get(watched.id) == text:
            return
        self._told[watched.id] = text
        for connection, subscription in list(watched.subscriptions.items()):
            if subscription.begun:
                connection.push(text)

    def tick(self, now: float) -> None:
        """Say who is here now and then; forget whom nobody spoke of for long."""
        if now - self._said_at >= SAY_EVERY:
            self._said_at = now
            for watched in list(self._hub.watched.values()):
                if watched.people > 1:
                    self._say_all(watched)
        for conversation_id, here in list(self._here.items()):
            old = [key for key, (_, at) in here.items() if now - at > FORGOTTEN_AFTER]
            for key in old:
                del here[key]
            known = self._hub.watched.get(conversation_id)
            if old and known is not None:
                self._tell(known)


def _people_of(watched: Watched) -> set[int]:
    return {connection.person_id for connection in watched.subscriptions}
