"""What goes wrong with the local homeserver, in sentences for the person at the terminal."""

from __future__ import annotations


class HomeserverError(Exception):
    """The local homeserver cannot be installed, configured or started. ``sentence`` says why and what to do; ``tail`` is the
    end of its log, if there is one."""

    def __init__(self, sentence: str, tail: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.tail = tail
