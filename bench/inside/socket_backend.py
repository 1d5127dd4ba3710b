"""A backend that speaks stamped words at a steady pace, and the worker that knows it.

Each word is the machine's monotonic clock in microseconds (eight hexadecimal digits and a blank), so that whoever reads it knows how old it is.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Iterator

from agents.backends.base import ReplyRequest, ServiceSpec, ShouldStop, Traits
from agents.backends.chunks import Chunk, Finished, TextDelta
from agents.backends.registry import register_backend
from bench.inside.noop_backend import NoopBackend

KIND = "bench-words"
TRAITS = Traits(keeps_history=True)
WRAP = 16**8
THINKING = 0.15


def stamp() -> str:
    """Now, as a word."""
    return f"{time.monotonic_ns() // 1000 % WRAP:08x} "


class WordsBackend(NoopBackend):
    """Options: ``words`` and how many of them a second (``rate``; 0: at once), after a moment such as a model takes to begin."""

    kind = KIND
    traits = TRAITS

    def __init__(self, spec: ServiceSpec) -> None:
        super().__init__(spec)
        self.words, self.rate = int(spec.options["words"]), float(spec.options["rate"])

    def stream_reply(self, request: ReplyRequest, *, should_stop: ShouldStop) -> Iterator[Chunk]:
        time.sleep(THINKING)
        began = time.monotonic()
        for number in range(self.words):
            wait = began + number / self.rate - time.monotonic() if self.rate else 0
            if wait > 0:
                time.sleep(wait)
            yield TextDelta(stamp())
        yield Finished("end")


def register() -> None:
    """Make the kind known in this process."""
    register_backend(KIND, "bench.inside.socket_backend.WordsBackend", "Stamped words", TRAITS, needs_address=False)


def worker(concurrency: str) -> None:
    """A Celery worker."""
    import django

    django.setup()
    register()
    from controlplane.celery import app

    name = f"bench-{secrets.token_hex(3)}@%h"
    app.worker_main(["worker", "-P", "threads", "-c", concurrency, "-n", name, "--without-mingle", "--without-gossip"])


if __name__ == "__main__":
    worker(*sys.argv[1:])
