"""One thing done for many, a few at a time, results in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connections

AT_ONCE = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(action: Callable[[Item], Result], items: Sequence[Item], *, at_once: int = AT_ONCE) -> list[Result]:
    """``action`` of each item, results in order. The first error is raised.

    Meant for what waits for other servers: where an action asked the database all the same, its connection ends with it.
    """
    if len(items) < 2:
        return [action(item) for item in items]

    def work(item: Item) -> Result:
        try:
            return action(item)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(max_workers=min(at_once, len(items)), thread_name_prefix="side-by-side") as pool:
        return list(pool.map(work, items))
