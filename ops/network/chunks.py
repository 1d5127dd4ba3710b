"""Measures whether what is sent piece by piece arrives piece by piece: a proxy that buffers hands everything over at the end.

The stream is ``GET /api/v1/stream-test``: five chunks, a quarter of a second apart. The check shows a ticket that is good for
one minute, signed with the secret key; it opens nothing else.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import httpx
from django.core import signing

from ops.network.places import environment_proxy

PATH = "/api/v1/stream-test"
HEADER = "X-Switchboard-Probe"
CHUNKS = 5
SPACING = 0.25
SECONDS = 8.0
_SALT = "switchboard.stream-test"
_GOOD_FOR = 60


def ticket() -> str:
    """A ticket for the stream."""
    return signing.TimestampSigner(salt=_SALT).sign("probe")


def is_ticket(text: str) -> bool:
    """Whether it is one of ours and still good."""
    try:
        return signing.TimestampSigner(salt=_SALT).unsign(text, max_age=_GOOD_FOR) == "probe"
    except signing.BadSignature:
        return False


@dataclass(frozen=True, slots=True)
class Measured:
    """When the chunks came, in seconds since the first. ``problem``: why there is nothing to measure."""

    arrivals: tuple[float, ...] = ()
    status: int = 0
    problem: str = ""

    @property
    def spread(self) -> float:
        """Seconds between the first and the last."""
        return self.arrivals[-1] if self.arrivals else 0.0

    @property
    def gaps(self) -> list[float]:
        """Seconds between one and the next."""
        return [later - earlier for earlier, later in zip(self.arrivals, self.arrivals[1:], strict=False)]

    @property
    def buffered(self) -> bool:
        """Fewer than half of the gaps look like those that were sent: something held them back."""
        return sum(gap >= SPACING * 0.5 for gap in self.gaps) < (CHUNKS - 1) / 2

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{status, chunks, sent_spacing_ms, gaps_ms, spread_ms, problem}``."""
        return {
            "status": self.status,
            "chunks": len(self.arrivals),
            "sent_spacing_ms": round(SPACING * 1000),
            "gaps_ms": [round(gap * 1000) for gap in self.gaps],
            "spread_ms": round(self.spread * 1000),
            "problem": self.problem,
        }


def measure(address: str) -> Measured:
    """Read the stream through ``address`` (scheme, host, port, path in front). Never raises."""
    proxy = environment_proxy(address)[0] or None
    url = address.rstrip("/") + PATH
    headers = {HEADER: ticket(), "Accept": "text/event-stream", "Accept-Encoding": "identity"}
    arrivals: list[float] = []
    seen = 0
    try:
        with (
            httpx.Client(timeout=SECONDS, proxy=proxy, trust_env=False) as http,
            http.stream("GET", url, headers=headers) as answer,
        ):
            if answer.status_code != 200:
                return Measured(status=answer.status_code, problem=f"{url} answers {answer.status_code}.")
            text = b""
            for piece in answer.iter_raw():
                text += piece
                now = time.monotonic()
                arrivals += [now] * (text.count(b"data: ") - seen)
                seen = text.count(b"data: ")
    except httpx.HTTPError as error:
        return Measured(problem=f"{url}: {type(error).__name__}.")
    if len(arrivals) != CHUNKS:
        return Measured(status=200, problem=f"{url} gives {len(arrivals)} of {CHUNKS} chunks.")
    return Measured(tuple(moment - arrivals[0] for moment in arrivals), 200)
