"""Why ``up`` cannot go on."""

from __future__ import annotations

# What the process ends with, by what stands in the way. Kept by the doctor as well, so that it can be read when nothing runs.
EXIT_CODES = {"settings": 10, "port": 11, "database": 12, "folder": 13, "running": 14, "homeserver": 15, "": 1}


class CannotStart(Exception):
    """A sentence for the person at the terminal: what is wrong and what to do. ``detail`` is printed below it; ``cause`` is a word of
    ``EXIT_CODES``."""

    def __init__(self, sentence: str, detail: str = "", *, cause: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.detail = detail
        self.cause = cause

    @property
    def exit_code(self) -> int:
        """What the process ends with."""
        return EXIT_CODES.get(self.cause, 1)
