"""What all sockets of a process share: one place on the channel layer, one reader of rows, one clock.

Live frames come through the layer and may be lost; once a second everything that is followed is looked at in the rows, in batches, so
that whatever was lost is told a second later. The same look asks whether those who opened the sockets still may.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from chat import live
from chat.access.identity import Identity
from chat.socket import reads, statistics
from chat.socket.buckets import Bucket
from chat.socket.connection import Connection
from chat.socket.groups import Groups
from chat.socket.presence import Presence
from chat.socket.protocol import (
    HEARTBEAT_SECONDS,
    PERSON_BURST,
    PERSON_RATE,
    Close,
    Wrong,
    cursor_of,
    encode,
    position_of,
)
from chat.socket.rendering import Renderings
from chat.socket.wanted import Batch, Wanted
from chat.socket.watched import Subscription, Watched
from ops import quiet
from ops.logs import get_logger

log = get_logger(__name__)

T = TypeVar("T")

LOOK_EVERY = 1.0
LISTS_EVERY = 5
JOIN_AGAIN_EVERY = 600.0
# The first hello of a hub to a database or a layer that is down is tried again so soon.
PAUSE = 0.5

_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def hub() -> Hub:
    """The hub of the running loop, begun when the first socket comes."""
    loop = asyncio.get_running_loop()
    found = _hubs.get(loop)
    if found is None:
        found = _hubs[loop] = Hub()
        found.start()
    return found


class Hub:
    """Everything here happens on one loop; only reads and commands happen in threads."""

    def __init__(self) -> None:
        self.key = secrets.token_hex(4)
        self.heartbeat = float(HEARTBEAT_SECONDS)
        self.connections: set[Connection] = set()
        self.by_person: dict[int, set[Connection]] = {}
        self.watched: dict[int, Watched] = {}
        self.reading = ThreadPoolExecutor(max_workers=3, thread_name_prefix="socket-reads")
        self.working = ThreadPoolExecutor(max_workers=6, thread_name_prefix="socket-work")
        self.presence = Presence(self)
        self.renderings = Renderings()
        self.looked_at = 0.0
        self.life = quiet.life()
        self._buckets: dict[int, Bucket] = {}
        self._listed: dict[tuple[int, int], tuple[int, int]] = {}
        self._groups = Groups(self._take)
        self._wanted = Wanted()
        self._look_now = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    # Beginning and ending.

    def start(self) -> None:
        """Begin its loops."""
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._forever(run))
            for run in (self._groups.hear, self._load, self._look, self._keep_time, self._count)
        ]

    async def stop(self) -> None:
        """End its loops and its threads: for tests, whose loops end before the process does."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.reading.shutdown()
        self.working.shutdown()
        _hubs.pop(asyncio.get_running_loop(), None)

    async def _forever(self, run: Callable[[], Any]) -> None:
        while True:
            try:
                await run()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                log.warning("socket.hub_failed", what=run.__name__, error=f"{type(error).__name__}: {error}"[:300])
                await asyncio.sleep(PAUSE)

    async def read(self, function: Callable[..., T], *arguments: Any) -> T:
        """A read in one of the hub's threads."""
        return await asyncio.get_running_loop().run_in_executor(self.reading, partial(function, *arguments))

    async def work(self, function: Callable[..., T], *arguments: Any) -> T:
        """A command, or a sign-in, in one of the threads for what people do."""
        return await asyncio.get_running_loop().run_in_executor(
            self.working, partial(reads.in_thread(function), *arguments)
        )

    # Sockets.

    async def join(self, connection: Connection) -> None:
        """A socket whose person is known."""
        identity = connection.identity
        assert identity is not None
        self.connections.add(connection)
        self.by_person.setdefault(identity.person_id, set()).add(connection)
        await self._groups.enter(live.group_of_person(identity.person_id))
        # It may have been ended between the check at the door and now.
        self._look_now.set()

    def leave(self, connection: Connection) -> None:
        """A socket that has ended; again is nothing."""
        self.connections.discard(connection)
        identity = connection.identity
        for conversation_id in list(connection.subscriptions):
            self.unsubscribe(connection, conversation_id)
        if identity is None:
            return
        own = self.by_person.get(identity.person_id)
        if own is not None:
            own.discard(connection)
            if not own:
                del self.by_person[identity.person_id]
                self._buckets.pop(identity.person_id, None)
                self._groups.exit(live.group_of_person(identity.person_id))

    def sockets_of(self, person_id: int) -> int:
        """How many this process holds."""
        return len(self.by_person.get(person_id, ()))

    def bucket(self, person_id: int) -> Bucket:
        """What a person may do over all their sockets of this process."""
        found = self._buckets.get(person_id)
        if found is None:
            found = self._buckets[person_id] = Bucket(PERSON_RATE, PERSON_BURST)
        return found

    async def subscribe(self, connection: Connection, frame: dict[str, Any]) -> None:
        """Let a socket follow a conversation, from where the client stands. Raises ``NotYours``, ``Wrong``."""
        conversation_id = frame["conversation"]
        since = cursor_of(frame["cursor"]) if frame.get("cursor") else None
        positions = {int(key): position_of(value) for key, value in (frame.get("turns") or {}).items()}
        assert connection.identity is not None
        self.unsubscribe(connection, conversation_id)
        if len(connection.subscriptions) >= connection.most_subscriptions:
            raise Wrong(f"A socket follows at most {connection.most_subscriptions} conversations.", frame["id"])
        subscription = Subscription(connection, render=bool(frame.get("render")), compact=bool(frame.get("compact")))
        watched = self.watched.get(conversation_id)
        if watched is None:
            watched = self.watched[conversation_id] = Watched(conversation_id, self._wanted.turn)
        watched.subscriptions[connection] = subscription
        connection.subscriptions.add(conversation_id)
        try:
            # Hears before it reads, so that nothing falls between the two.
            await self._groups.enter(live.group_of(conversation_id))
            found = await self.read(reads.catch_up, connection.identity, conversation_id, since, list(positions))
            if watched.subscriptions.get(connection) is not subscription:
                return
            missed = await watched.begin(subscription, found, frame["id"], since, positions)
        except BaseException:
            if watched.subscriptions.get(connection) is subscription:
                self.unsubscribe(connection, conversation_id)
            raise
        if missed:
            watched.tell_over(subscription, await self.read(reads.turns, missed))
        if subscription.render:
            self.renderings.begin(watched, subscription)
        self._wanted.conversation(conversation_id)
        self.presence.came(watched, connection)

    def unsubscribe(self, connection: Connection, conversation_id: int) -> bool:
        """No longer. False: it did not follow it."""
        connection.subscriptions.discard(conversation_id)
        watched = self.watched.get(conversation_id)
        if watched is None or watched.subscriptions.pop(connection, None) is None:
            return False
        self.presence.went(watched, connection)
        if not watched.subscriptions:
            del self.watched[conversation_id]
            self.renderings.forget(watched)
            self.presence.forget(conversation_id)
            self._groups.exit(live.group_of(conversation_id))
        return True

    # What is heard, and what is read then.

    def _take(self, group: str, frame: dict[str, Any]) -> None:
        where, _, number = group.partition(".")
        kind = frame["type"]
        if where == "person":
            if kind == "access":
                self._look_now.set()
            elif kind == "conversation":
                self._wanted.line(int(number), frame["conversation"])
            return
        watched = self.watched.get(int(number))
        if watched is None:
            return
        if kind in {"message", "changed"}:
            self._wanted.conversation(watched.id)
        elif kind in {"typing", "presence"}:
            self.presence.take(watched, frame)
        else:
            watched.take(frame)
            if kind == "delta":
                self.renderings.want(watched, frame["turn"])

    async def _load(self) -> None:
        wanted = await self._wanted.next()
        since = {
            pk: (place.seq, place.revision)
            for pk in wanted.conversations
            if (watched := self.watched.get(pk)) is not None and (place := watched.place) is not None
        }
        lines = {pair for pair in wanted.lines if pair[0] in self.by_person}
        if not since and not wanted.turns and not lines:
            return
        self._wanted.reads(wanted.turns)
        try:
            found = await self.read(reads.load, since, wanted.turns, lines)
        except Exception:
            self._wanted.again(Batch(wanted.conversations, wanted.turns, lines))
            raise
        self._apply(found)

    def _apply(self, found: reads.Loaded) -> None:
        told = [
            (watched, turn)
            for turn in found.turns
            if (watched := self.watched.get(turn.conversation)) is not None
            for turn in watched.take_turns([turn])
        ]
        for pk, place in found.places.items():
            watched = self.watched.get(pk)
            if watched is None:
                continue
            if pk in found.gaps:
                watched.tell_gap(place)
            else:
                watched.take_messages(place, found.messages.get(pk, []))
        for watched, turn in told:
            watched.tell_turn(turn)
            self.renderings.want(watched, turn.id)
        for (person_id, conversation_id), line in found.lists.items():
            if line is None:
                text = encode({"type": "conversation", "id": conversation_id, "removed": True})
                self._listed.pop((person_id, conversation_id), None)
            else:
                text = encode({"type": "conversation", "removed": False, **line})
                self._listed[person_id, conversation_id] = (line["last_seq"] + 1, line["revision"])
            for connection in list(self.by_person.get(person_id, ())):
                connection.push(text)

    # The look of every second.

    async def _look(self) -> None:
        number = 0
        while True:
            began = time.monotonic()
            number += 1
            if self.connections:
                await self._look_once(number)
            self.looked_at = time.monotonic()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look_now.wait(), max(0.02, began + LOOK_EVERY - time.monotonic()))
            self._look_now.clear()

    async def _look_once(self, number: int) -> None:
        identities: set[Identity] = {one.identity for one in self.connections if one.identity is not None}
        pairs = {
            (connection.identity.person_id, pk)
            for pk, watched in self.watched.items()
            for connection, subscription in watched.subscriptions.items()
            if subscription.begun and connection.identity is not None
        }
        people = list(self.by_person) if number % LISTS_EVERY == 0 else []
        asked = list(self.watched)
        found = await self.read(reads.look, asked, pairs, identities, people)
        self.heartbeat = float(found.heartbeat)
        for connection in list(self.connections):
            identity = connection.identity
            if identity in identities and identity not in found.valid:
                connection.end(Close.ACCESS_ENDED, "The session, token or access has ended.")
        self._look_at_members(pairs, found)
        by_conversation: dict[int, dict[int, tuple[int, str, int, int]]] = {}
        for turn_id, values in found.open.items():
            by_conversation.setdefault(values[0], {})[turn_id] = values
        ended: dict[int, list[int]] = {}
        for turn_id, pk in found.ended.items():
            ended.setdefault(pk, []).append(turn_id)
        for pk in asked:
            watched = self.watched.get(pk)
            if watched is None:
                continue
            if watched.place is not None and found.places.get(pk, watched.place) != watched.place:
                self._wanted.conversation(pk)
            for turn_id in watched.turns_to_read(by_conversation.get(pk, {}), ended.get(pk, [])):
                self._wanted.turn(pk, turn_id)
        for pair, state in found.lists.items():
            if self._listed.get(pair) != state:
                self._wanted.line(*pair)
        if len(self._listed) > 50_000:
            self._listed.clear()

    def _look_at_members(self, pairs: set[tuple[int, int]], found: reads.Look) -> None:
        for person_id, pk in pairs - found.members:
            for connection in list(self.by_person.get(person_id, ())):
                if self.unsubscribe(connection, pk):
                    connection.push(encode({"type": "unsubscribed", "conversation": pk, "reason": "gone"}))

    # The clock.

    async def _keep_time(self) -> None:
        joined_at = time.monotonic()
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            ping = None
            for connection in list(self.connections):
                if now - connection.heard_at > 2 * self.heartbeat:
                    connection.end(Close.SILENT, "Nothing was heard for two heartbeats.")
                elif now - connection.pinged_at >= self.heartbeat:
                    connection.pinged_at = now
                    ping = ping or encode({"type": "ping"})
                    connection.push(ping)
            self.presence.tick(now)
            await self._look_at_life()
            if now - joined_at > JOIN_AGAIN_EVERY:
                joined_at = now
                await self._groups.join_again()

    async def _look_at_life(self) -> None:
        """Rows were put back from a backup: what anybody was told of later ones is true no more, and everybody begins anew."""
        await quiet.is_quiet_async()
        before, self.life = self.life, quiet.life()
        if before and before != self.life:
            for connection in list(self.connections):
                connection.end(Close.GOING_DOWN, "A backup was restored; open another socket and read everything anew.")

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(statistics.WRITE_EVERY)
            await self.work(statistics.write)
