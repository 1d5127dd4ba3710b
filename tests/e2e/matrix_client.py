"""An independent Matrix client: matrix-nio's ``AsyncClient``, signed in as an ordinary user."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from nio import (
    AsyncClient,
    AsyncClientConfig,
    InviteMemberEvent,
    JoinResponse,
    RoomMessage,
    RoomSendResponse,
    SyncResponse,
)


class Person:
    """Somebody with a Matrix client. Collects what is said in all rooms, in the order in which the client saw it."""

    def __init__(self, homeserver: str, user_id: str, password: str) -> None:
        self.client = AsyncClient(homeserver, user_id, config=AsyncClientConfig(max_timeouts=3, request_timeout=60))
        self.user_id = user_id
        self.password = password
        self.heard: list[tuple[str, Any]] = []
        self.invited: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Person:
        await self.client.login(self.password)
        self.client.add_event_callback(self._on_message, RoomMessage)
        self.client.add_event_callback(self._on_invite, InviteMemberEvent)
        await self.client.sync(timeout=0, full_state=True)
        self._task = asyncio.create_task(self.client.sync_forever(timeout=2000))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.client.close()

    async def _on_message(self, room: Any, event: Any) -> None:
        self.heard.append((room.room_id, event))

    async def _on_invite(self, room: Any, event: Any) -> None:
        self.invited[room.room_id] = room.display_name

    async def join(self, room_id: str) -> None:
        answer = await self.client.join(room_id)
        assert isinstance(answer, JoinResponse), answer

    async def say(self, room_id: str, text: str) -> str:
        answer = await self.client.room_send(room_id, "m.room.message", {"msgtype": "m.text", "body": text})
        assert isinstance(answer, RoomSendResponse), answer
        return answer.event_id

    def said_in(self, room_id: str, sender: str | None = None, edits: bool = False) -> list[str]:
        """Final texts heard in a room, edits applied; without the person's own."""
        texts: dict[str, str] = {}
        for room, event in self.heard:
            if room != room_id or event.sender == self.user_id or (sender and event.sender != sender):
                continue
            content = event.source.get("content", {})
            relation = content.get("m.relates_to", {})
            if relation.get("rel_type") == "m.replace":
                texts[relation["event_id"]] = content.get("m.new_content", {}).get("body", "")
            else:
                texts[event.event_id] = content.get("body", "")
        return list(texts.values())

    async def until(self, condition: Callable[[], bool], seconds: float = 180, what: str = "") -> None:
        """Wait for something to be true; the message says what was missing."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, what or "waited in vain"
            await asyncio.sleep(0.1)

    async def all_messages(self, room_id: str) -> list[dict[str, Any]]:
        """The whole room from the homeserver's store, oldest first."""
        events: list[dict[str, Any]] = []
        token = ""
        while True:
            page = await self.client.room_messages(room_id, start=token or None, limit=200)
            events += [event.source for event in page.chunk]
            if not page.chunk or not page.end or page.end == token:
                return events[::-1]
            token = page.end


async def synced(person: Person) -> SyncResponse:
    """One sync by hand."""
    answer = await person.client.sync(timeout=0)
    assert isinstance(answer, SyncResponse), answer
    return answer


def run(coroutine: Callable[[], Awaitable[None]]) -> None:
    """Run a test's asynchronous part."""
    asyncio.run(coroutine())  # type: ignore[arg-type]
