"""What ``up`` says: one line a step, each with its lamp; a moving line for what takes long; colour only on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from ops.choices import Lamp
from ops.terminal import LAMP_COLOURS

WIDTH = 80
_EVERY = 10.0


class Terminal:
    """Standard output, 80 columns wide; longer sentences wrap below their beginning."""

    def __init__(self) -> None:
        # A log file that is no terminal gets lines of the same width.
        self.console = Console(file=sys.stdout, width=WIDTH, highlight=False, emoji=False, markup=False)

    def say(self, lamp: str | Lamp, sentence: str) -> None:
        """One step and its lamp."""
        known = Lamp(lamp)
        line = Text(f"{known.shape} ", style=LAMP_COLOURS[known])
        self.console.print(_hanging(line, sentence))
        self.flush()

    def plain(self, text: str = "") -> None:
        """Text without a lamp."""
        self.console.print(text, soft_wrap=True)
        self.flush()

    @contextmanager
    def working(self, what: str) -> Iterator[Callable[[str], None]]:
        """Show that something takes a while; what is yielded takes the news of it."""
        started = time.monotonic()
        if self.console.is_terminal:
            with self.console.status(what) as status:
                yield lambda text: status.update(f"{what}: {text} ({time.monotonic() - started:.0f} s)")
            return
        said = [0.0]

        def progress(text: str) -> None:
            if not said[0] or time.monotonic() - said[0] >= _EVERY:
                said[0] = time.monotonic()
                self.say(Lamp.WORKING, f"{what}: {text} ({time.monotonic() - started:.0f} s)")

        yield progress

    def flush(self) -> None:
        """Others write to the same terminal: nothing is held back."""
        self.console.file.flush()


def _hanging(start: Text, sentence: str) -> Text:
    """The sentence, wrapped at 80 columns and indented below its lamp."""
    import textwrap

    lines: list[str] = []
    for paragraph in sentence.splitlines() or [""]:
        lines += textwrap.wrap(paragraph, WIDTH - 2, break_long_words=False, break_on_hyphens=False) or [""]
    return start + Text("\n  ".join(lines))
