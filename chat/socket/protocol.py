"""Numbers and words of the protocol: version, close codes, limits, what commands look like."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from ops.api.answers import to_json
from ops.live import register_live

PATH = "/ws"
SUBPROTOCOL = "switchboard.v1"
VERSION = 1

# Of a frame that a client sends, in bytes. The server in front cuts off at the second number before it has read all of it.
FRAME_BYTES = 256 * 1024
HARD_FRAME_BYTES = 1024 * 1024
# What may wait for a client that does not read.
QUEUE_BYTES = 1024 * 1024
# Frames a second that are taken without end, and how many at once.
SOCKET_RATE, SOCKET_BURST = 10.0, 60.0
PERSON_RATE, PERSON_BURST = 30.0, 200.0
# So many refusals without a frame that was taken end the socket.
MOST_REFUSALS = 50
SOCKETS_PER_PERSON = 50
SUBSCRIPTIONS_PER_SOCKET = 100
HELLO_SECONDS = 10.0
# More messages than these are not caught up with over the socket: the client asks the API for the page that it shows.
CATCH_UP_MESSAGES = 200

HEARTBEAT = "socket.heartbeat_seconds"
HEARTBEAT_SECONDS = 20


def _seconds(value: Any) -> int:
    try:
        seconds = int(str(value))
    except ValueError:
        raise ValueError("It must be a number of seconds.") from None
    if not 5 <= seconds <= 60:
        raise ValueError("It must be between 5 and 60 seconds.")
    return seconds


register_live(
    HEARTBEAT,
    label="Seconds between a socket's heartbeats",
    help="A proxy that ends quiet connections early needs a shorter one. Between 5 and 60.",
    parse=_seconds,
    default=lambda: HEARTBEAT_SECONDS,
)


class Close(IntEnum):
    """Why we end a socket."""

    SLOW = 1013
    MALFORMED = 4400
    NOT_SIGNED_IN = 4401
    NOT_ALLOWED = 4403
    SILENT = 4408
    ACCESS_ENDED = 4409
    TOO_LARGE = 4413
    TOO_FAST = 4429
    GOING_DOWN = 4503


class Refused(Exception):
    """The socket is ended at once, with a code and one sentence."""

    def __init__(self, code: Close, sentence: str) -> None:
        super().__init__(sentence)
        self.code, self.sentence = code, sentence


class Wrong(Exception):
    """A frame that cannot be used; ``ident`` is the client's id for it, if it was readable."""

    def __init__(self, sentence: str, ident: str | int | None = None) -> None:
        super().__init__(sentence)
        self.sentence, self.ident = sentence, ident


_CLIENT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_POSITION = re.compile(r"\d{1,9}:\d{1,9}(:\d{1,9})?\Z")
_CURSOR = re.compile(r"\d{1,10}\.\d{1,10}\Z")
_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a command. ``kind``: int, text, bool, texts, positions, client_id or cursor."""

    kind: str
    needed: bool = True
    longest: int = 0


def _id() -> dict[str, Field]:
    return {"id": Field("ident")}


COMMANDS: dict[str, dict[str, Field]] = {
    "hello": {
        "version": Field("int", False),
        "token": Field("text", False, 4096),
        "ticket": Field("text", False, 100),
    },
    "subscribe": {
        **_id(),
        "conversation": Field("int"),
        "cursor": Field("cursor", False),
        "turns": Field("positions", False),
        "render": Field("bool", False),
        "compact": Field("bool", False),
    },
    "unsubscribe": {"id": Field("ident", False), "conversation": Field("int")},
    "send": {
        **_id(),
        "conversation": Field("int"),
        "client_id": Field("client_id"),
        "text": Field("text", True, FRAME_BYTES),
        "attachments": Field("texts", False, 20),
        "parent": Field("int", False),
    },
    "edit": {
        **_id(),
        "message": Field("int"),
        "client_id": Field("client_id"),
        "text": Field("text", True, FRAME_BYTES),
    },
    "regenerate": {**_id(), "message": Field("int")},
    "show": {**_id(), "message": Field("int")},
    "stop": {**_id(), "turn": Field("int")},
    "approve": {
        **_id(),
        "turn": Field("int"),
        "call": Field("text", True, 255),
        "approve": Field("bool"),
        "reason": Field("text", False, 2000),
    },
    "read": {"id": Field("ident", False), "conversation": Field("int"), "seq": Field("int")},
    "draft": {
        "id": Field("ident", False),
        "conversation": Field("int"),
        "text": Field("text", True, 100_000),
        "attachments": Field("texts", False, 20),
    },
    "typing": {"id": Field("ident", False), "conversation": Field("int")},
    "text": {**_id(), "turn": Field("int"), "from": Field("int", False)},
    "ping": {"id": Field("ident", False)},
    "pong": {},
}


def read(text: str) -> dict[str, Any]:
    """A client's frame, checked against ``COMMANDS``. Raises ``Refused`` for what is no frame at all, ``Wrong`` for a wrong one."""
    if len(text) > FRAME_BYTES or (not text.isascii() and len(text.encode()) > FRAME_BYTES):
        raise Refused(Close.TOO_LARGE, f"A frame may have {FRAME_BYTES // 1024} KB.")
    try:
        frame = json.loads(text)
    except (ValueError, RecursionError):
        raise Refused(Close.MALFORMED, "The frame is not JSON.") from None
    if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
        raise Refused(Close.MALFORMED, "A frame is a JSON object with a type.")
    ident = frame.get("id")
    if not _is_ident(ident):
        ident = None
    fields = COMMANDS.get(frame["type"])
    if fields is None:
        raise Wrong(f"There is no frame of the type {frame['type'][:40]!r}.", ident)
    for name, field in fields.items():
        value = frame.get(name)
        if value is None:
            if field.needed:
                raise Wrong(f"{frame['type']} needs {name}.", ident)
        elif not _fits(field, value):
            raise Wrong(f"{name} of {frame['type']} is not as it must be; see the protocol's schema.", ident)
    return frame


def _is_ident(value: Any) -> bool:
    if isinstance(value, str):
        return 0 < len(value) <= 64
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53


def _fits(field: Field, value: Any) -> bool:
    match field.kind:
        case "ident":
            return _is_ident(value)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST
        case "bool":
            return isinstance(value, bool)
        case "text":
            return isinstance(value, str) and len(value) <= field.longest and _is_text(value)
        case "client_id":
            return isinstance(value, str) and _CLIENT_ID.match(value) is not None
        case "cursor":
            return isinstance(value, str) and (value == "" or _CURSOR.match(value) is not None)
        case "texts":
            return (
                isinstance(value, list)
                and len(value) <= field.longest
                and all(isinstance(one, str) and len(one) <= 64 and _is_text(one) for one in value)
            )
        case _:
            return (
                isinstance(value, dict)
                and len(value) <= 50
                and all(
                    key.isdecimal() and len(key) < 19 and isinstance(one, str) and _POSITION.match(one)
                    for key, one in value.items()
                )
            )


def _is_text(value: str) -> bool:
    """Whether it can be stored: no NUL, no half of a character."""
    return "\x00" not in value and not any("\ud800" <= char <= "\udfff" for char in value)


def encode(frame: dict[str, Any]) -> str:
    """A frame as text."""
    return to_json(frame).decode()


def cursor_text(seq: int, revision: int) -> str:
    """Where a client stands in a conversation."""
    return f"{seq}.{revision}"


def cursor_of(text: str) -> tuple[int, int]:
    """(seq, revision) of a cursor that ``read`` has let through."""
    seq, _, revision = text.partition(".")
    return int(seq), int(revision)


def position_of(text: str) -> tuple[int, int, int]:
    """(attempt, characters of the text, characters of the reasoning) of a turn that a client follows."""
    fence, sent, *reasoned = (int(part) for part in text.split(":"))
    return fence, sent, reasoned[0] if reasoned else 0
