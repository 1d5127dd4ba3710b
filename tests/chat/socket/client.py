"""A client of its own make: python ``websockets``, the documentation, and nothing of ours but the schema.

It puts conversations together as docs/socket.md says, holds every frame of both directions against the schema, and keeps all it got.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

SCHEMA = json.loads((Path(__file__).resolve().parents[3] / "docs" / "socket.schema.json").read_text("utf-8"))
_FRAMES = SCHEMA["$defs"]
SEEN: dict[str, set[str]] = {"client": set(), "server": set()}


def _validator(side: str, kind: str) -> Draft202012Validator:
    return Draft202012Validator({**SCHEMA, "$ref": f"#/$defs/{side}Frames/{kind}"})


_validators = {
    (side, kind): _validator(side, kind) for side in ("client", "server") for kind in _FRAMES[f"{side}Frames"]
}


def check(side: str, frame: dict[str, Any]) -> None:
    """Hold a frame against the schema."""
    kind = frame.get("type", "short")
    assert (side, kind) in _validators, f"the schema does not know {kind} of the {side}"
    _validators[side, kind].validate(frame)
    SEEN[side].add(kind)


class Turn:
    """What the client holds of an answer."""

    def __init__(self) -> None:
        self.text = self.reasoning = ""
        self.parts: dict[int, dict[str, Any]] = {}
        self.fence = 0
        self.state: dict[str, Any] = {}
        self.resets = 0
        self.blocks: dict[int, str] = {}

    def take(self, frame: dict[str, Any]) -> None:
        kind = frame["type"]
        if kind == "delta":
            assert frame["offset"] == len(self.text), ("a gap or a repetition", frame, len(self.text))
            self.text += frame["text"]
            self.fence = frame["fence"]
        elif kind == "reasoning":
            assert frame["offset"] == len(self.reasoning), ("a gap or a repetition", frame, len(self.reasoning))
            self.reasoning += frame["text"]
            part = self.parts.setdefault(frame["index"], {"type": "reasoning", "start": frame["start"], "text": ""})
            part["text"] += frame["text"]
            self.fence = frame["fence"]
        elif kind == "part":
            self.parts[frame["index"]] = frame["part"]
            self.fence = frame["fence"]
        elif kind == "reset":
            self.text = self.reasoning = ""
            self.parts, self.blocks = {}, {}
            self.fence, self.resets = frame["fence"], self.resets + 1
        elif kind == "rendered":
            self.blocks[frame["block"]] = frame["html"]
        else:
            self.fence, self.state = frame["fence"], frame

    @property
    def position(self) -> str:
        return f"{self.fence}:{len(self.text)}:{len(self.reasoning)}"

    def in_order(self) -> list[tuple[str, str]]:
        """Text, reasoning and tools in the order in which they happened."""
        found: list[tuple[str, str]] = []
        at = 0
        for index in sorted(self.parts):
            part = self.parts[index]
            start = part["start"]
            if start > at:
                found.append(("text", self.text[at:start]))
                at = start
            found.append((part["type"], part.get("text") or part.get("name", "")))
        return [*found, ("text", self.text[at:])] if self.text[at:] else found


class State:
    """What a page would hold, over however many sockets."""

    def __init__(self) -> None:
        self.cursor: dict[int, str] = {}
        self.messages: dict[int, dict[str, Any]] = {}
        self.turns: dict[int, Turn] = {}

    def positions(self) -> dict[str, str]:
        return {str(pk): turn.position for pk, turn in self.turns.items() if not turn.state.get("final")}


class Closed(Exception):
    """The server closed the socket."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code, self.reason = code, reason


class Client:
    """One socket. ``state`` may be that of an earlier one, to go on from there."""

    def __init__(
        self,
        url: str,
        *,
        query: str = "",
        cookie: str = "",
        origin: str | None = None,
        state: State | None = None,
        compact: bool = False,
        pongs: bool = True,
        **options: Any,
    ) -> None:
        headers = {"Cookie": cookie} if cookie else {}
        self.state = state or State()
        self.frames: list[dict[str, Any]] = []
        self.bytes = 0
        self.compact = compact
        self._pongs = pongs
        self._ids = count(1)
        self.socket: ClientConnection = connect(
            url.replace("http", "ws", 1) + "/ws" + (f"?{query}" if query else ""),
            additional_headers=headers,
            origin=origin,
            subprotocols=["switchboard.v1"],
            compression=None,
            max_size=None,
            open_timeout=30,
            proxy=None,
            **options,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    # Sending.

    def send(self, kind: str, **fields: Any) -> None:
        frame = {"type": kind, **fields}
        check("client", frame)
        self.socket.send(json.dumps(frame))

    def ask(self, kind: str, seconds: float = 60, **fields: Any) -> dict[str, Any]:
        """Send a command and wait for its answer (``ok``, ``error`` or ``subscribed``)."""
        ident = f"c{next(self._ids)}"
        self.send(kind, id=ident, **fields)
        return self.until(lambda frame: frame.get("id") == ident and frame["type"] != "conversation", seconds)

    def do(self, kind: str, **fields: Any) -> dict[str, Any]:
        """``ask``, and it must be done."""
        answer = self.ask(kind, **fields)
        assert answer["type"] in {"ok", "subscribed", "pong"}, answer
        return answer

    def refused(self, kind: str, **fields: Any) -> str:
        """``ask``, and it must be refused: the code."""
        answer = self.ask(kind, **fields)
        assert answer["type"] == "error", answer
        return str(answer["code"])

    def subscribe(self, conversation: int, *, fresh: bool = False, **fields: Any) -> dict[str, Any]:
        """Follow a conversation, from where ``state`` is."""
        if self.compact:
            fields["compact"] = True
        if not fresh and conversation in self.state.cursor:
            fields |= {"cursor": self.state.cursor[conversation], "turns": self.state.positions()}
        return self.do("subscribe", conversation=conversation, **fields)

    # Receiving.

    def next(self, seconds: float = 60) -> dict[str, Any]:
        """The next frame. Raises ``TimeoutError``, ``Closed``."""
        try:
            text = self.socket.recv(timeout=seconds)
        except ConnectionClosed as closed:
            received = closed.rcvd
            raise Closed(received.code if received else 1006, received.reason if received else "") from None
        self.bytes += len(text.encode() if isinstance(text, str) else text)
        frame: dict[str, Any] = json.loads(text)
        self._take(frame)
        return frame

    def _take(self, frame: dict[str, Any]) -> None:
        check("server", frame)
        self.frames.append(frame)
        state, kind = self.state, frame.get("type", "short")
        if kind == "short":
            turn = state.turns[frame["t"]]
            assert turn.fence, "a short delta before its attempt was named"
            turn.take({"type": "delta", "offset": frame["o"], "text": frame["d"], "fence": turn.fence})
        elif kind in {"delta", "reasoning", "part", "reset", "rendered", "turn"}:
            state.turns.setdefault(frame["turn"], Turn()).take(frame)
        elif kind == "message":
            state.messages[frame["message"]["id"]] = frame["message"]
            state.cursor[frame["conversation"]] = frame["cursor"]
        elif kind == "subscribed":
            state.cursor[frame["conversation"]] = frame["cursor"]
        elif kind == "ping" and self._pongs:
            self.send("pong")

    def until(self, what: str | Callable[[dict[str, Any]], bool], seconds: float = 60) -> dict[str, Any]:
        """Read until such a frame came."""
        end = time.monotonic() + seconds
        while True:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(
                    f"nothing of it within {seconds} s; the last frames: {str(self.frames[-5:])[-1500:]}"
                )
            try:
                frame = self.next(left)
            except TimeoutError:
                continue
            if frame.get("type") == what if isinstance(what, str) else what(frame):
                return frame

    def until_over(self, turn: int, seconds: float = 60) -> Turn:
        """Read until a turn is over; what is held of it."""
        held = self.state.turns.get(turn)
        if held is None or not held.state.get("final"):
            self.until(lambda frame: frame.get("type") == "turn" and frame["turn"] == turn and frame["final"], seconds)
        return self.state.turns[turn]

    def welcome(self) -> dict[str, Any]:
        return self.until("welcome")

    def until_closed(self, seconds: float = 60) -> Closed:
        """Read until the server closes the socket."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                self.next(left)
            except Closed as closed:
                return closed
            except TimeoutError:
                break
        raise TimeoutError(f"not closed within {seconds} s; the last frames: {str(self.frames[-5:])[-1500:]}")

    def quiet(self, seconds: float) -> list[dict[str, Any]]:
        """What comes within some seconds."""
        before = len(self.frames)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                self.next(left)
            except TimeoutError:
                break
        return self.frames[before:]
