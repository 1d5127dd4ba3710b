"""The way out to one client: a queue with a byte count, and the server's own brake.

ASGI's ``send`` says nothing of a client that does not read: daphne takes every frame and keeps it. So its protocol object (the first
argument of its ``send``) is asked to tell when its buffer is full, as Twisted's producers are told. With any other server ``send``
itself waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from chat.socket.protocol import HARD_FRAME_BYTES, QUEUE_BYTES
from ops.logs import get_logger

log = get_logger(__name__)

Send = Callable[[Any], Awaitable[None]]

# A client that reads slowly gets so long to read why it was cut.
_CLOSE_SECONDS = 10.0


class Wire:
    """Frames go out in order. ``slow`` is called once when more than ``QUEUE_BYTES`` wait behind the frame that is being sent."""

    __slots__ = (
        "_closing",
        "_free",
        "_head",
        "_protocol",
        "_queue",
        "_queued",
        "_send",
        "_slow",
        "_writer",
        "closed",
        "sent",
    )

    def __init__(self, send: Send, slow: Callable[[], None]) -> None:
        self._send, self._slow = send, slow
        self._queue: deque[tuple[str, int]] | None = None
        self._queued = self._head = 0
        self._writer: asyncio.Task[None] | None = None
        self._free: asyncio.Event | None = None
        self._closing: tuple[int, str] | None = None
        self.closed = False
        self.sent = 0
        self._protocol: Any = _daphne_protocol(send)

    def opened(self) -> None:
        """The handshake is over: limits can be set on the server's side."""
        if self._protocol is not None:
            _limit(self._protocol, self)

    async def raw(self, message: dict[str, Any]) -> None:
        """An ASGI message that is no frame."""
        await self._send(message)

    async def flush(self) -> None:
        """Wait until what is to be sent is handed to the server."""
        if self._writer is not None:
            await self._writer

    @property
    def waiting(self) -> int:
        """Bytes that wait to be sent."""
        return self._queued

    def push(self, text: str) -> None:
        """Send a frame, now or when there is room. Never waits."""
        if self.closed or self._closing is not None:
            return
        size = len(text) if text.isascii() else len(text.encode())
        self.sent += size
        if self._writer is None and self._free is None and self._protocol is not None:
            # Nothing waits and the server takes it at once: no task for it.
            try:
                self._protocol.handle_reply({"type": "websocket.send", "text": text})
            except Exception as error:
                log.debug("socket.not_sent", error=f"{type(error).__name__}: {error}"[:200])
                self.gone()
                self._drop()
            return
        if self._queue is None:
            self._queue = deque()
        self._queue.append((text, size))
        self._queued += size
        if self._queued - self._queue[0][1] > QUEUE_BYTES:
            self._slow()
            return
        self._start()

    async def room(self) -> None:
        """Wait until little waits: for whoever has much to send and can wait."""
        while self._queued > QUEUE_BYTES // 8 and not self.closed:
            await asyncio.sleep(0.05)

    def close(self, code: int, reason: str, last: str) -> None:
        """Send ``last``, then end the socket. What waits is dropped."""
        if self.closed or self._closing is not None:
            return
        self._closing = (code, reason)
        self._queue, self._queued = deque([(last, 0)]), 0
        self.resume()
        self._start()

    def gone(self) -> None:
        """The other side is no longer there."""
        self.closed = True
        self._queue, self._queued = None, 0
        self.resume()

    def pause(self) -> None:
        """The server has enough for now."""
        if self._free is None and self._closing is None and not self.closed:
            self._free = asyncio.Event()

    def resume(self) -> None:
        """The server takes more."""
        if self._free is not None:
            self._free.set()
            self._free = None

    def _drop(self) -> None:
        """End the connection without a word."""
        if self._protocol is not None and self._protocol.transport is not None:
            self._protocol.transport.abortConnection()

    def _start(self) -> None:
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._queue and not self.closed:
                if self._free is not None:
                    await self._free.wait()
                    continue
                text, size = self._queue.popleft()
                self._queued -= size
                await self._send({"type": "websocket.send", "text": text})
            if self._closing is not None and not self.closed:
                code, reason = self._closing
                self.closed = True
                if self._protocol is not None:
                    # Its own call takes neither a reason nor 1013.
                    self._protocol.sendCloseFrame(code=code, reasonUtf8=reason.encode())
                else:
                    await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except Exception as error:
            # The server refuses frames of a connection that has just ended; any other is ended here.
            log.debug("socket.not_sent", error=f"{type(error).__name__}: {error}"[:200])
            self.gone()
            self._drop()
        finally:
            self._writer = None


def _daphne_protocol(send: Send) -> Any:
    """Daphne's protocol object behind its ``send``; None with another server."""
    first = send.args[0] if isinstance(send, partial) and send.args else None
    return first if hasattr(first, "transport") and hasattr(first, "sendMessage") else None


class _Brake:
    """What Twisted tells when the transport's buffer is full and when it is empty again (IPushProducer)."""

    __slots__ = ("_wire",)

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def pauseProducing(self) -> None:
        self._wire.pause()

    def resumeProducing(self) -> None:
        self._wire.resume()

    def stopProducing(self) -> None:
        self._wire.gone()


def _limit(protocol: Any, wire: Wire) -> None:
    protocol.maxFramePayloadSize = protocol.maxMessagePayloadSize = HARD_FRAME_BYTES
    protocol.closeHandshakeTimeout = _CLOSE_SECONDS
    transport = protocol.transport
    if transport is None or not hasattr(transport, "registerProducer"):
        return
    # The HTTP channel that the connection began with is still registered, and has nothing to produce any more.
    transport.unregisterProducer()
    transport.registerProducer(_Brake(wire), True)
