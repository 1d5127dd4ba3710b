"""Which kinds of records can be brought in. Each is a part: how it is read, what it means for us, how it is applied.

Apps above register theirs (what was said between agents belongs to conversations, of which this app knows nothing).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.importing.records import Planned, Raw, Record

if TYPE_CHECKING:
    from agents.importing.work import Done, Task, Work
    from agents.importing.world import World
    from agents.services.backends import Homeserver

# ``None``: the entry is not of this kind.
Reader = Callable[[Raw], Record | None]
Planner = Callable[[Sequence[Record], "World"], list[Planned]]
Applier = Callable[["Work", "Task"], "Done"]
# Asks the homeserver about one row, for many rows side by side; what it returns waits in ``Work.reached``. Must not touch the database.
Asker = Callable[["Homeserver", "Task"], Any]


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of records. ``order``: what others build on comes first. ``tables``: where a relational database keeps them."""

    kind: str
    label: str
    reader: Reader
    planner: Planner
    applier: Applier
    order: int = 100
    tables: tuple[str, ...] = ()
    ask: Asker | None = None


_parts: dict[str, Part] = {}


def register_part(
    kind: str,
    reader: Reader,
    planner: Planner,
    applier: Applier,
    *,
    label: str = "",
    order: int = 100,
    tables: Iterable[str] = (),
    ask: Asker | None = None,
) -> Part:
    """Make a kind of records known. The same kind again takes the former's place."""
    part = Part(kind, label or kind, reader, planner, applier, order, tuple(tables), ask)
    _parts[kind] = part
    return part


def parts() -> list[Part]:
    """All parts in the order in which they are planned and applied."""
    return sorted(_parts.values(), key=lambda part: (part.order, part.kind))


def part_of(kind: str) -> Part | None:
    """The part for a kind of records."""
    return _parts.get(kind)


def understand(raw: Raw) -> Record | None:
    """The entry as the first part that knows it reads it; with a hint only the part that the hint names."""
    for part in parts():
        if raw.hint and raw.hint != part.kind and raw.hint not in part.tables:
            continue
        record = part.reader(raw)
        if record is not None:
            return record
    return None
