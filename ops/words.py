"""Numbers in sentences: "1 message", "1,204 messages", "1 service is switched off"."""

from __future__ import annotations


def counted(number: int, singular: str, plural: str = "") -> str:
    """The number with its noun in the right form, thousands separated: ``counted(1204, "message")`` is "1,204 messages".

    ``plural`` is needed only where it is more than an added "s", also for words that follow the noun or stand before it:
    ``counted(n, "copy", "copies")``, ``counted(n, "more channel fails", "more channels fail")``.
    """
    return f"{number:,} {verb(number, singular, plural or singular + 's')}"


def verb(number: float, singular: str, plural: str) -> str:
    """The word that agrees with the number: ``verb(count, "is", "are")``."""
    return singular if number == 1 else plural
