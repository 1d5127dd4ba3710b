"""Files beside the rows: attachments, keys, stores. Each is a component that its app registers (``<app>/backup.py``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from ops.findings import Finding


@dataclass(frozen=True, slots=True)
class FilePart:
    """One file to take along. ``name`` is relative, with slashes; ``size`` is exact: ``open`` gives at least that many bytes."""

    name: str
    size: int
    open: Callable[[], BinaryIO]


@dataclass(slots=True)
class Cut:
    """What a component may ask while a backup is being made. ``folder`` is a scratch folder that is removed afterwards.

    ``alias`` is a database connection inside the same consistent cut as the rows. ``say`` takes findings (a file that is gone).
    """

    alias: str
    folder: Path
    say: Callable[[Finding], None]
    should_stop: Callable[[], bool] = lambda: False
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Putting:
    """What a component may ask while a backup is being put back. ``data_dir`` is the folder to write below (a drill gives a scratch one);
    ``alias`` the database into which rows went; ``drill``: nothing outside of ``data_dir`` may be touched."""

    data_dir: Path
    alias: str
    drill: bool
    say: Callable[[Finding], None]
    keys: tuple[str, ...] = ()  # the backup's FIELD_ENCRYPTION_KEYS, for what is sealed with them
    extra: dict[str, Any] = field(default_factory=dict)


class Component(Protocol):
    """A kind of files. ``kind`` is the kind of rows that it belongs to (restored with ``--only`` of that kind); ``optional`` ones are taken
    along only when the plan or the caller asks."""

    name: str
    label: str
    kind: str
    optional: bool

    def unavailable(self) -> str:
        """Why it cannot be taken along here and now; "" when it can, "-" when there is nothing of the kind (which is well)."""

    def files(self, cut: Cut) -> Iterator[FilePart]:
        """The files, one after another. A file that changes while it is read is copied into ``cut.folder`` first."""

    def put(self, files: Iterable[tuple[str, int, BinaryIO]], putting: Putting) -> dict[str, int]:
        """Put files back: (name, size, stream; streams are read in order). Never removes what the backup does not know.
        Returns counts for people (``{"written": 3, "same": 120}``)."""


_components: dict[str, Component] = {}


def register_component(component: Component) -> Component:
    """Make a component known."""
    known = _components.setdefault(component.name, component)
    if type(known) is not type(component):
        raise ValueError(f"The component {component.name!r} is registered already.")
    return known


def components() -> list[Component]:
    """All components, in the order of registration."""
    return list(_components.values())


def component(name: str) -> Component | None:
    """The component of that name."""
    return _components.get(name)
