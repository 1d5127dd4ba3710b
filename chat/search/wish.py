"""What somebody typed into the search, taken apart: terms, and conditions like ``agent:ada`` or ``after:2026-01-31``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta, tzinfo

LONGEST = 400
MOST_TERMS = 10
# A condition's name, a value in quotes or without, or a term in either.
_TOKEN = re.compile(r'(?:(?P<name>[a-zA-Z]+):)?(?:"(?P<quoted>[^"]*)"?|(?P<plain>[^\s"]+))')
_YES, _NO = ("yes", "true", "1", "ja"), ("no", "false", "0", "nein")


class WishInvalid(Exception):
    """``sentence`` says which condition cannot be understood, and how it is written."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


@dataclass(frozen=True, slots=True)
class Wish:
    """``terms`` all have to be there. ``before`` is exclusive, ``after`` inclusive; ``sender`` is "", ``me`` or ``agent``."""

    terms: tuple[str, ...] = ()
    agent: str = ""
    pinned: bool | None = None
    archived: bool | None = None
    before: datetime | None = None
    after: datetime | None = None
    sender: str = ""

    @property
    def is_empty(self) -> bool:
        return self == Wish()


def read_wish(text: str, zone: tzinfo) -> Wish:
    """Take apart what was typed. Days are those of the reader's ``zone``. Raises ``WishInvalid``.

    What looks like a condition and is none (``http://…``, ``note:``) is a term like any other.
    """
    wish = Wish()
    terms: list[str] = []
    for token in _TOKEN.finditer(text[:LONGEST]):
        value = token["quoted"] if token["quoted"] is not None else token["plain"]
        read = _CONDITIONS.get((token["name"] or "").lower())
        if read is not None and value.strip():
            wish = read(wish, value.strip(), zone)
        elif term := " ".join((token[0] if token["name"] else value).replace('"', "").split()):
            terms.append(term)
    return replace(wish, terms=tuple(dict.fromkeys(terms))[:MOST_TERMS])


def _agent(wish: Wish, value: str, zone: tzinfo) -> Wish:
    return replace(wish, agent=value)


def _flag(field: str) -> Callable[[Wish, str, tzinfo], Wish]:
    def read(wish: Wish, value: str, zone: tzinfo) -> Wish:
        if value.lower() not in (*_YES, *_NO):
            raise WishInvalid(f"Write {field}:yes or {field}:no.")
        return replace(wish, **{field: value.lower() in _YES})  # type: ignore[arg-type]

    return read


def _day(value: str, name: str) -> date:
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise WishInvalid(f"Write the day as {name}:2026-01-31; {value} is none.") from None


def _midnight(day: date, zone: tzinfo) -> datetime:
    return datetime.combine(day, time.min, zone)


def _before(wish: Wish, value: str, zone: tzinfo) -> Wish:
    return replace(wish, before=_midnight(_day(value, "before"), zone))


def _after(wish: Wish, value: str, zone: tzinfo) -> Wish:
    return replace(wish, after=_midnight(_day(value, "after"), zone))


def _on(wish: Wish, value: str, zone: tzinfo) -> Wish:
    day = _day(value, "on")
    last = day if day == date.max else day + timedelta(days=1)
    return replace(wish, after=_midnight(day, zone), before=_midnight(last, zone))


def _sender(wish: Wish, value: str, zone: tzinfo) -> Wish:
    who = {"me": "me", "mir": "me", "agent": "agent", "agents": "agent"}.get(value.lower())
    if who is None:
        raise WishInvalid("Write from:me or from:agent.")
    return replace(wish, sender=who)


_CONDITIONS: dict[str, Callable[[Wish, str, tzinfo], Wish]] = {
    "agent": _agent,
    "pinned": _flag("pinned"),
    "archived": _flag("archived"),
    "before": _before,
    "after": _after,
    "on": _on,
    "from": _sender,
}
