"""One socket, from the handshake to its end."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from chat.access.identity import Identity
from chat.models import Person
from chat.socket import commands, protocol, signin, statistics
from chat.socket.buckets import Bucket
from chat.socket.protocol import Close, Refused, Wrong, encode
from chat.socket.wire import Send, Wire
from ops import quiet
from ops.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from chat.socket.hub import Hub

log = get_logger(__name__)

# Written down as what became of a socket that the other side ended without a word.
_NO_CODE = 1005
_LATE = "Nothing said who you are; send hello within 10 seconds."


class Connection:
    """A socket of a person. Frames of one socket are done one after the other, in the order in which they came."""

    __slots__ = (
        *("_bucket", "_code", "_hub", "_opened_at", "_receive", "_refusals", "heard_at", "identity", "name"),
        *("pinged_at", "subscriptions", "wire", "__weakref__"),
    )

    def __init__(self, hub: Hub, receive: Callable[[], Awaitable[Any]], send: Send) -> None:
        self._hub, self._receive = hub, receive
        self.wire = Wire(send, self._slow)
        self.identity: Identity | None = None
        self.name = ""
        self.subscriptions: set[int] = set()
        self._opened_at = self.heard_at = self.pinged_at = time.monotonic()
        self._bucket = Bucket(protocol.SOCKET_RATE, protocol.SOCKET_BURST)
        self._refusals = 0
        self._code: int | None = None

    @property
    def person_id(self) -> int:
        """0 before it is known."""
        return self.identity.person_id if self.identity is not None else 0

    @property
    def most_subscriptions(self) -> int:
        """How many conversations it may follow."""
        return protocol.SUBSCRIPTIONS_PER_SOCKET

    def push(self, text: str) -> None:
        """Send a frame; never waits."""
        self.wire.push(text)

    def end(self, code: Close, reason: str) -> None:
        """End the socket with a last word. Again is nothing."""
        if self._code is not None:
            return
        self._code = int(code)
        # Control frames hold 123 bytes of reason; the last frame says all of it.
        self.wire.close(
            int(code),
            reason.encode()[:120].decode(errors="ignore"),
            encode({"type": "bye", "code": int(code), "reason": reason}),
        )
        self._hub.leave(self)

    def _slow(self) -> None:
        self.end(Close.SLOW, "slow reader: too much waits to be read. Open another socket and resume.")

    async def run(self, scope: dict[str, Any], accept: dict[str, Any]) -> None:
        """Until the socket is closed, by whichever side."""
        code = _NO_CODE
        try:
            await self._receive()
            await self.wire.raw(accept)
            self.wire.opened()
            code = await self._serve(scope)
        except asyncio.CancelledError:
            # The server goes down.
            self.end(Close.GOING_DOWN, "Switchboard goes down; open another socket in a moment and resume.")
            await self.wire.flush()
            raise
        finally:
            self.wire.gone()
            self._hub.leave(self)
            # Whoever left before saying who they are was nobody's socket: the doctor's own, for one.
            if self._code is not None or self.identity is not None:
                statistics.note(self._code or code, time.monotonic() - self._opened_at)

    async def _serve(self, scope: dict[str, Any]) -> int:
        try:
            await self._sign_in(scope)
        except Refused as refused:
            self.end(refused.code, refused.sentence)
        except Gone as gone:
            return gone.code
        del scope
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                return int(message.get("code") or _NO_CODE)
            if self._code is None:
                await self._take(message)

    async def _sign_in(self, scope: dict[str, Any]) -> None:
        identity = await self._hub.work(signin.identity_of_scope, scope)
        if identity is None:
            identity = await self._hub.work(signin.identity_of_hello, await self._hello())
        if self._hub.sockets_of(identity.person_id) >= protocol.SOCKETS_PER_PERSON:
            raise Refused(Close.TOO_FAST, f"You have {protocol.SOCKETS_PER_PERSON} sockets open already.")
        self.name = await self._hub.work(_name_of, identity)
        if self._code is not None:
            return
        self.identity = identity
        await self._hub.join(self)
        self.heard_at = self.pinged_at = time.monotonic()
        self.push(encode(self._welcome()))

    async def _hello(self) -> dict[str, Any]:
        """The first frame of a client that brought nothing. Raises ``Refused``, ``Gone``."""
        try:
            async with asyncio.timeout(protocol.HELLO_SECONDS):
                message = await self._receive()
        except TimeoutError:
            raise Refused(Close.SILENT, _LATE) from None
        if message["type"] == "websocket.disconnect":
            raise Gone(int(message.get("code") or _NO_CODE))
        frame = _frame_of(message)
        if frame["type"] != "hello":
            raise Refused(Close.NOT_SIGNED_IN, "The first frame has to be hello.")
        _check_version(frame)
        return frame

    def _welcome(self) -> dict[str, Any]:
        assert self.identity is not None
        return {
            "type": "welcome",
            "version": protocol.VERSION,
            "person": {"id": self.identity.person_id, "name": self.name},
            "reading_only": bool(self.identity.impersonator),
            "heartbeat": self._hub.heartbeat,
            "life": quiet.life(),
            "limits": {
                "frame_bytes": protocol.FRAME_BYTES,
                "queue_bytes": protocol.QUEUE_BYTES,
                "frames_per_second": protocol.SOCKET_RATE,
                "frames_at_once": protocol.SOCKET_BURST,
                "subscriptions": protocol.SUBSCRIPTIONS_PER_SOCKET,
                "sockets": protocol.SOCKETS_PER_PERSON,
                "catch_up_messages": protocol.CATCH_UP_MESSAGES,
            },
        }

    async def _take(self, message: dict[str, Any]) -> None:
        self.heard_at = time.monotonic()
        assert self.identity is not None
        wait = self._bucket.take() or self._hub.bucket(self.identity.person_id).take()
        if wait:
            self._too_fast(message, wait)
            return
        try:
            frame = _frame_of(message)
            # Not by a frame that got through among those that are refused: a flood is one however slowly we read it.
            if self._bucket.is_rested:
                self._refusals = 0
            await self._do(frame)
        except Refused as refused:
            self.end(refused.code, refused.sentence)
        except Wrong as wrong:
            self._error(wrong.ident, "frame.invalid", wrong.sentence)

    def _too_fast(self, message: dict[str, Any], wait: float) -> None:
        self._refusals += 1
        if self._refusals > protocol.MOST_REFUSALS:
            self.end(Close.TOO_FAST, "Too many frames. Open another socket and go on more slowly.")
            return
        try:
            ident = _frame_of(message).get("id")
        except Refused as refused:
            self.end(refused.code, refused.sentence)
            return
        except Wrong as wrong:
            ident = wrong.ident
        self._error(ident, "rate.limited", "Too many frames; this one was not taken.", retry_after=round(wait, 2))

    def _error(self, ident: Any, code: str, detail: str, **more: Any) -> None:
        named = {} if ident is None else {"id": ident}
        self.push(encode({"type": "error", **named, "code": code, "detail": detail, **more}))

    async def _do(self, frame: dict[str, Any]) -> None:
        kind, ident = frame["type"], frame.get("id")
        try:
            match kind:
                case "ping":
                    self.push(encode({"type": "pong", **({} if ident is None else {"id": ident})}))
                case "pong":
                    return
                case "hello":
                    # Who came with a cookie or a ticket may say hello all the same.
                    _check_version(frame)
                case "subscribe":
                    await self._hub.subscribe(self, frame)
                case "unsubscribe":
                    self._hub.unsubscribe(self, frame["conversation"])
                    self._ok(ident, {})
                case "typing":
                    self._typing(frame)
                    self._ok(ident, {})
                case _:
                    assert self.identity is not None
                    self._ok(ident, await self._hub.work(commands.run, self.identity, frame))
        except (Refused, Wrong):
            raise
        except Exception as error:
            code, detail, more = commands.trouble(error)
            if code == commands.INTERNAL:
                log.exception("socket.command_failed", frame=kind)
            self._error(ident, code, detail, **more)

    def _ok(self, ident: Any, result: dict[str, Any]) -> None:
        if ident is not None:
            self.push(encode({"type": "ok", "id": ident, **result}))

    def _typing(self, frame: dict[str, Any]) -> None:
        assert self.identity is not None
        watched = self._hub.watched.get(frame["conversation"])
        if watched is None or self not in watched.subscriptions:
            raise Wrong("Follow the conversation first.", frame.get("id"))
        if not self.identity.impersonator and watched.subscriptions[self].begun:
            self._hub.presence.typing(watched, self)


class Gone(Exception):
    """The other side ended the socket before it said who it was."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def _frame_of(message: dict[str, Any]) -> dict[str, Any]:
    text = message.get("text")
    if text is None:
        raise Refused(Close.MALFORMED, "Frames are text.")
    return protocol.read(text)


def _check_version(frame: dict[str, Any]) -> None:
    if frame.get("version", protocol.VERSION) != protocol.VERSION:
        raise Refused(Close.MALFORMED, f"This server speaks version {protocol.VERSION} of the protocol.")


def _name_of(identity: Identity) -> str:
    return str(Person.objects.only("username", "display_name").get(pk=identity.person_id))
