"""What tests do at an installation's socket: people, their sessions, conversations, clients."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from tests.chat.socket.client import Client, State
from tests.chat.socket.helper import Helper


class Person:
    """Somebody with a session."""

    def __init__(self, place: Place, name: str) -> None:
        self.place, self.name = place, name
        found = place.ask(
            "p = Person.objects.create_user(name, password='xk-29-dune', display_name=name.title())\n"
            "b = Browser(); b.force_login(p)\n"
            "result = [p.pk, b.cookies['switchboard_session'].value]",
            name=name,
        )
        self.id, self.session = found
        self.cookie = f"switchboard_session={self.session}"

    def conversation(self, agent: str = "Echo") -> int:
        """A new conversation with an agent."""
        made: int = self.place.ask(
            "result = portal.conversation_start(person=Person.objects.get(pk=person), agent=Agent.objects.get(name=agent),"
            " actor='test').conversation_id",
            person=self.id, agent=agent,
        )  # fmt: skip
        return made

    def ticket(self) -> str:
        made: str = self.place.ask(
            "result = ticket_issue(identity=identity_of_session_key(key), actor='test')", key=self.session
        )
        return made

    def client(self, url: str = "", **options: Any) -> Client:
        """A socket that was welcomed."""
        made = self.place.client(url, query=f"ticket={self.ticket()}", **options)
        made.welcome()
        return made


class Place:
    """An installation that runs, and those who are at it."""

    def __init__(self, url: str, environment: dict[str, str]) -> None:
        self.url = url
        self.helper = Helper(environment)
        self._names = 0
        self._open = ExitStack()

    def ask(self, code: str, **values: Any) -> Any:
        return self.helper.ask(code, **values)

    def person(self, name: str = "") -> Person:
        self._names += 1
        return Person(self, f"{name or 'somebody'}{self._names}")

    def client(self, url: str = "", **options: Any) -> Client:
        made = Client(url or self.url, **options)
        self._open.callback(made.socket.close)
        return made

    def hang_up(self) -> None:
        """Close all clients."""
        self._open.close()

    def speed(self, words: float) -> None:
        """How fast the demo agents speak; 0 is at once."""
        self.ask("Service.objects.filter(kind='demo').update(options={'speed': words})", words=words)

    def answer(self, turn: int) -> str:
        """The stored answer."""
        found: str = self.ask("result = Turn.objects.get(pk=turn).reply.text", turn=turn)
        return found

    def stop(self) -> None:
        self.hang_up()
        self.helper.stop()


__all__ = ["Client", "Person", "Place", "State"]
