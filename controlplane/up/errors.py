"""Why ``up`` cannot go on."""

from __future__ import annotations


class CannotStart(Exception):
    """A sentence for the person at the terminal: what is wrong and what to do. ``detail`` is printed below it."""

    def __init__(self, sentence: str, detail: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.detail = detail
