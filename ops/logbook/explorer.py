"""Finds the object behind whatever an operator pastes: ids of agents, rooms, events, turns, requests, addresses, names.

Apps register finders; the search of the operator's site, the API and a check ask them all. Every page that a finder leads to is
read-only until a button on it is pressed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.urls import NoReverseMatch, reverse

from ops.live import live, register_live
from ops.logs import get_logger

logger = get_logger(__name__)

LEFT_OUT_KEY = "search.left_out"
LONGEST = 300


@dataclass(frozen=True, slots=True)
class Found:
    """One object. ``view`` is the name of its page in the admin (``agents_agent_change``), ``key`` what the page is asked for;
    ``query`` is appended to the address."""

    title: str
    description: str
    view: str
    key: Any = None
    icon: str = "search"
    query: str = ""

    @property
    def address(self) -> str:
        """Its page; "" when there is none."""
        try:
            address = reverse(f"admin:{self.view}", args=[] if self.key is None else [self.key])
        except NoReverseMatch:
            return ""
        return f"{address}{self.query}"


@dataclass(frozen=True, slots=True)
class Finder:
    """Finds objects of one kind. ``sample`` gives an id that must be found, "" when there is no object yet."""

    kind: str
    label: str
    find: Callable[[str], Sequence[Found]]
    sample: Callable[[], str]


_finders: dict[str, Finder] = {}


def parse_left_out(value: Any) -> list[str]:
    """Kinds that the search leaves out. Raises ``ValueError``."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError("Name kinds, separated by commas.")
    unknown = sorted(set(value) - set(_finders))
    if unknown:
        raise ValueError(f"There is no kind {', '.join(unknown)}; there are: {', '.join(sorted(_finders))}.")
    return sorted(set(value))


register_live(
    LEFT_OUT_KEY,
    label="Left out of the search",
    help="Kinds of objects that the search leaves out, for very large tables in which looking takes too long.",
    parse=parse_left_out,
    default=list,
)


def register_finder(
    kind: str, *, label: str, find: Callable[[str], Sequence[Found]], sample: Callable[[], str]
) -> None:
    """Make a kind of object findable. ``find`` gets the trimmed text and returns at most a handful, the best first."""
    _finders[kind] = Finder(kind, label, find, sample)


def finders() -> list[Finder]:
    """All finders, in the order of registration."""
    return list(_finders.values())


def left_out() -> list[str]:
    """Kinds that an operator took out of the search."""
    return list(live(LEFT_OUT_KEY))


def search(term: str) -> list[Found]:
    """What fits ``term``, at most some dozens; a finder that fails is left out and logged."""
    term = term.strip().strip("`'\"<>")[:LONGEST].replace("\x00", "")
    if len(term) < 2 and not term.isdigit():
        return []
    skipped = set(left_out())
    found: list[Found] = []
    seen: set[tuple[str, str, str]] = set()
    for finder in finders():
        if finder.kind in skipped:
            continue
        try:
            hits = finder.find(term)
        except Exception:
            logger.warning("search_part_failed", kind=finder.kind, exc_info=True)
            continue
        for hit in hits:
            place = (hit.view, str(hit.key), hit.query)
            if place not in seen:
                seen.add(place)
                found.append(hit)
    return found
