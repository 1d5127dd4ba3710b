"""A conversation that sockets of this process follow: loaded once, told to each of them from where they are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from chat.socket.protocol import cursor_text, encode
from chat.socket.reads import CatchUp, Place, TurnRead
from chat.turns.follow import Answer, Event, Reader, take_frame

if TYPE_CHECKING:
    from chat.socket.connection import Connection

# Turns that are over and were told: their last frames may come late.
_MOST_OVER = 500


class Subscription:
    """One socket's view of a conversation: up to where it was told, and what it holds of each open answer.

    Until it has ``begun`` (caught up), what comes is held back.
    """

    __slots__ = ("begun", "compact", "connection", "held", "readers", "render", "revision", "seq", "told")

    def __init__(self, connection: Connection, *, render: bool, compact: bool) -> None:
        self.connection = connection
        self.render, self.compact = render, compact
        self.seq = self.revision = 0
        self.begun = False
        self.held: list[tuple[Place, list[dict[str, Any]]]] = []
        self.readers: dict[int, Reader] = {}
        # The attempt that the client was last told of, by turn: a short delta does not name it.
        self.told: dict[int, int] = {}


class Watched:
    """A conversation and its subscriptions. Everything here happens on the hub's loop and asks no database.

    ``want_turn`` is called with the conversation's and a turn's id when the turn's row has to be read.
    """

    def __init__(self, conversation_id: int, want_turn: Callable[[int, int], None]) -> None:
        self.id = conversation_id
        self.place: Place | None = None
        # Walked over as a copy: a frame may be the last that a slow reader is sent, and end its subscription.
        self.subscriptions: dict[Connection, Subscription] = {}
        self.answers: dict[int, Answer] = {}
        self.over: dict[int, str] = {}
        self.turn_frames: dict[int, str] = {}
        self.people = 1
        self._want_turn = want_turn
        self._memo: tuple[Any, str] = (None, "")

    # Live frames.

    def take(self, frame: dict[str, Any]) -> None:
        """A live frame of one of its turns."""
        turn_id = frame["turn"]
        if frame["type"] == "turn":
            if self.over.get(turn_id) != frame["state"]:
                self._want_turn(self.id, turn_id)
            return
        if turn_id in self.over:
            return
        answer = self.answers.get(turn_id)
        if answer is None:
            answer = self.answers[turn_id] = Answer(turn_id)
        if take_frame(answer, frame):
            self._want_turn(self.id, turn_id)
        self._tell_answer(answer)

    def _tell_answer(self, answer: Answer) -> None:
        for subscription in list(self.subscriptions.values()):
            if subscription.begun:
                self._tell_one(subscription, answer)

    def _tell_one(self, subscription: Subscription, answer: Answer) -> None:
        reader = subscription.readers.get(answer.turn_id)
        if reader is None:
            reader = subscription.readers[answer.turn_id] = Reader()
        for event in reader.news(answer):
            subscription.connection.push(self._frame(subscription, answer, event))

    def _frame(self, subscription: Subscription, answer: Answer, event: Event) -> str:
        """The event as text; made once for all who are at the same place."""
        fence = answer.fence or 0
        data = event.data
        short = event.name == "delta" and subscription.compact and subscription.told.get(answer.turn_id) == fence
        key = (
            event.name,
            short,
            answer.turn_id,
            fence,
            answer.life,
            data.get("index"),
            data.get("offset"),
            len(data.get("text", "")),
        )
        subscription.told[answer.turn_id] = fence
        if self._memo[0] != key:
            if short:
                text = encode({"t": data["turn"], "o": data["offset"], "d": data["text"]})
            else:
                text = encode({"type": event.name, **data, "fence": fence})
            self._memo = (key, text)
        return self._memo[1]

    # What was read.

    def take_turns(self, turns: Iterable[TurnRead]) -> list[TurnRead]:
        """Rows of turns: what they add to the texts. Returns those to be told by ``tell_turn`` once the messages are out."""
        told = []
        for turn in turns:
            if self.over.get(turn.id) == turn.row.state:
                continue
            self.over.pop(turn.id, None)
            answer = self.answers.get(turn.id)
            if answer is None:
                answer = self.answers[turn.id] = Answer(turn.id)
            answer.take_row(turn.row)
            told.append(turn)
            if turn.row.final:
                self._tell_answer(answer)
        return told

    def tell_turn(self, turn: TurnRead) -> None:
        """A turn's state, to all; its text before the last state, behind the others."""
        text = turn_frame(turn)
        if self.turn_frames.get(turn.id) != text:
            self.turn_frames[turn.id] = text
            for subscription in list(self.subscriptions.values()):
                if subscription.begun:
                    subscription.told[turn.id] = turn.row.fence
                    subscription.connection.push(text)
        answer = self.answers.get(turn.id)
        if turn.row.final:
            self._end(turn.id, turn.row.state)
        elif answer is not None:
            self._tell_answer(answer)

    def _end(self, turn_id: int, state: str) -> None:
        self.answers.pop(turn_id, None)
        self.turn_frames.pop(turn_id, None)
        for subscription in list(self.subscriptions.values()):
            subscription.readers.pop(turn_id, None)
            subscription.told.pop(turn_id, None)
        if len(self.over) >= _MOST_OVER:
            self.over.pop(next(iter(self.over)))
        self.over[turn_id] = state

    def take_messages(self, place: Place, messages: list[dict[str, Any]]) -> None:
        """New and changed messages, and where the conversation stands with them."""
        if self.place is not None and (place.seq, place.revision) < (self.place.seq, self.place.revision):
            return
        self.place = place
        for subscription in list(self.subscriptions.values()):
            if subscription.begun:
                self._tell_messages(subscription, place, messages)
            else:
                subscription.held.append((place, messages))

    def _tell_messages(self, subscription: Subscription, place: Place, messages: list[dict[str, Any]]) -> None:
        fresh = [one for one in messages if one["seq"] > subscription.seq or one["revision"] > subscription.revision]
        before = cursor_text(subscription.seq, subscription.revision)
        subscription.seq, subscription.revision = (
            max(subscription.seq, place.seq),
            max(subscription.revision, place.revision),
        )
        after = cursor_text(subscription.seq, subscription.revision)
        for number, shown in enumerate(fresh, 1):
            # Whoever is cut in the middle of several is told all of them again.
            subscription.connection.push(self._message_frame(place, shown, after if number == len(fresh) else before))

    def _message_frame(self, place: Place, shown: dict[str, Any], cursor: str) -> str:
        key = ("message", shown["id"], shown["revision"], place.revision, place.head, cursor)
        if self._memo[0] != key:
            self._memo = (key, message_frame(self.id, place, shown, cursor))
        return self._memo[1]

    def tell_gap(self, place: Place) -> None:
        """Too much changed at once: whoever follows reads the conversation anew."""
        self.place = place
        for subscription in list(self.subscriptions.values()):
            subscription.seq, subscription.revision = place.seq, place.revision
            subscription.connection.push(
                encode({"type": "gap", "conversation": self.id, "cursor": cursor_text(place.seq, place.revision)})
            )

    # Beginning and ending.

    async def begin(
        self,
        subscription: Subscription,
        found: CatchUp,
        ident: Any,
        since: tuple[int, int] | None,
        positions: dict[int, tuple[int, int, int]],
    ) -> set[int]:
        """Tell a new subscription what it misses, then let it hear the rest. Returns turns that ended meanwhile, for ``tell_over``.

        ``positions`` says what the client holds of answers: (attempt, characters of the text, of the reasoning).
        """
        connection, place = subscription.connection, found.place
        self.people = found.people
        if self.place is None:
            self.place = place
        seq, revision = since if since is not None and not found.gap else (place.seq, place.revision)
        connection.push(
            encode(
                {
                    "type": "subscribed",
                    "id": ident,
                    "conversation": self.id,
                    "cursor": cursor_text(seq, revision),
                    "head": place.head,
                    "revision": place.revision,
                    "title": place.title,
                    "last_seq": place.seq,
                    "gap": found.gap,
                }
            )
        )
        for turn_id, (fence, sent, reasoned) in positions.items():
            subscription.readers[turn_id] = Reader(sent=sent, fence=fence, reasoned=reasoned)
        over = [turn for turn in found.turns if turn.row.final]
        for turn in over:
            answer = Answer(turn.id)
            answer.take_row(turn.row)
            self._tell_one(subscription, answer)
        subscription.seq, subscription.revision = seq, revision
        for number, shown in enumerate(found.messages, 1):
            await connection.wire.room()
            last = number == len(found.messages)
            cursor = cursor_text(place.seq, place.revision) if last else cursor_text(seq, revision)
            connection.push(message_frame(self.id, place, shown, cursor))
        subscription.seq, subscription.revision = max(seq, place.seq), max(revision, place.revision)
        for turn in over:
            connection.push(turn_frame(turn))
        # What ended before is news to nobody here, unless others still wait for its last word; then this one has it already.
        for turn_id, state in [*found.ended.items(), *((turn.id, str(turn.row.state)) for turn in over)]:
            if turn_id not in self.answers:
                self._end(turn_id, state)
            elif turn_id not in subscription.readers:
                subscription.readers[turn_id] = Reader.of_all()
        await connection.wire.room()
        # From here on nothing is waited for: what came meanwhile is told, then it hears what the others hear.
        for turn in found.turns:
            if not turn.row.final and turn.id not in self.over:
                answer = self.answers.setdefault(turn.id, Answer(turn.id))
                answer.take_row(turn.row)
                subscription.told[turn.id] = turn.row.fence
                connection.push(turn_frame(turn))
        held, subscription.held = subscription.held, []
        for then, messages in held:
            self._tell_messages(subscription, then, messages)
        subscription.begun = True
        for answer in list(self.answers.values()):
            if not answer.final:
                self._tell_one(subscription, answer)
        # What ended while it caught up was told to the others without it.
        missed = {turn.id for turn in found.turns if not turn.row.final and turn.id in self.over}
        return missed | {
            turn_id for turn_id in positions if turn_id in self.over and turn_id not in {one.id for one in over}
        }

    def tell_over(self, subscription: Subscription, turns: Iterable[TurnRead]) -> None:
        """Turns that are over, to one subscription that was not there when they ended."""
        for turn in turns:
            answer = Answer(turn.id)
            answer.take_row(turn.row)
            self._tell_one(subscription, answer)
            subscription.readers.pop(turn.id, None)
            subscription.told.pop(turn.id, None)
            subscription.connection.push(turn_frame(turn))

    def turns_to_read(self, opened: dict[int, tuple[int, str, int, int]], ended: Collection[int]) -> set[int]:
        """Turns whose rows say more than what was told: after the look of every second."""
        wanted = set()
        for turn_id, (_, state, fence, length) in opened.items():
            answer = self.answers.get(turn_id)
            if (
                answer is None
                or answer.row is None
                or (answer.row.state, answer.fence) != (state, fence)
                or length > answer.length
            ):
                wanted.add(turn_id)
        wanted |= {turn_id for turn_id in self.answers if turn_id not in opened}
        return wanted | {turn_id for turn_id in ended if turn_id not in self.over}


def turn_frame(turn: TurnRead) -> str:
    """A turn's state as a frame. ``length``: how long the whole answer is, once it is over."""
    shown = {key: value for key, value in turn.shown.items() if key != "id"}
    return encode(
        {
            "type": "turn",
            "turn": turn.id,
            "conversation": turn.conversation,
            **shown,
            "fence": turn.row.fence,
            "final": turn.row.final,
            "length": len(turn.row.shown) if turn.row.final else None,
        }
    )


def message_frame(conversation_id: int, place: Place, shown: dict[str, Any], cursor: str) -> str:
    """A message as a frame."""
    return encode(
        {
            "type": "message",
            "conversation": conversation_id,
            "cursor": cursor,
            "head": place.head,
            "revision": place.revision,
            "message": shown,
        }
    )
