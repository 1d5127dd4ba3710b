"""The rows of a backup in the tables' present shapes, table by table, whatever version made it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any

from django.db.migrations.loader import MigrationLoader

from ops.backup.errors import BackupDamaged, NewerVersion
from ops.backup.rows import count, read_rows
from ops.backup.shapes import TableShape, table_shapes

if TYPE_CHECKING:
    from ops.backup.read import BackupReader, Member

Progress = Callable[[int, int, str], None]
Tables = Iterator[tuple[TableShape, Iterator[list[Any]]]]


def _passed_over(member: Member) -> None:
    """For whoever wants rows only."""


def tables_of(reader: BackupReader, seen: Callable[[Member], None] = _passed_over, *, whole: bool = True) -> Tables:
    """The rows as they lie in the file, table by table in its order. The reader is at its end afterwards, so everything is verified then.

    ``seen`` gets the members that hold no rows, while they can be read. With ``whole=False`` the reader stops behind the rows, for somebody
    who goes on with the files: only for a file that was read to its end before.
    """
    shapes = {shape.label: shape for shape in reader.begin.tables}

    def rows_only() -> Iterator[Member]:
        for member in reader.members():
            if member.kind == "rows":
                yield member
            else:
                seen(member)

    members, filled = rows_only() if whole else reader.row_members(), set()
    for label, parts in groupby(members, key=lambda member: member.label):
        if label not in shapes:
            raise BackupDamaged(f"It holds rows of {label}, which its table of contents does not name.")
        filled.add(label)
        yield shapes[label], (row for part in parts for row in part.rows())
    # A table that was empty is no table that the backup does not know: what stands in it now came since.
    for label in shapes:
        if label not in filled:
            yield shapes[label], iter(())


def needs_upgrade(migrations: dict[str, list[str]]) -> bool:
    """Whether a backup with these migrations is older than the code. Raises ``NewerVersion`` when it is newer."""
    loader = MigrationLoader(None, ignore_no_migrations=True)
    known = set(loader.disk_migrations) | set(loader.graph.nodes)
    known |= {one for migration in loader.disk_migrations.values() for one in migration.replaces}
    there = {(app, name) for app, names in migrations.items() for name in names}
    ours = {app for app, _ in loader.disk_migrations}
    newer = sorted(f"{app}.{name}" for app, name in there - known if app in ours)
    if newer:
        raise NewerVersion(
            f"It was made by a newer version of Switchboard ({', '.join(newer[:3])} is not known here). Install that version or a newer "
            "one, then restore."
        )
    gone = sorted({app for app, _ in there} - ours)
    if gone:
        raise NewerVersion(
            f"It holds tables of {', '.join(gone)}, which this version does not have. Install the version that made it."
        )
    return not set(loader.graph.nodes) <= there


@contextmanager
def rows_in_present_shape(
    reader: BackupReader,
    *,
    progress: Progress,
    seen: Callable[[Member], None] = _passed_over,
    whole: bool = True,
) -> Iterator[Tables]:
    """The backup's rows, table by table, in the shapes of the present models. A backup of an older version goes through its migrations first,
    in a scratch database. ``seen`` and ``whole`` as in ``tables_of``. Raises ``NewerVersion``."""
    if not needs_upgrade(reader.begin.migrations):
        yield _fitting(reader, seen, whole)
        return
    from ops.backup.upgrade import scratch_database

    with scratch_database(reader, progress=progress, seen=seen, whole=whole) as alias:
        yield _of_scratch(alias, {shape.label for shape in reader.begin.tables})


def _fitting(reader: BackupReader, seen: Callable[[Member], None], whole: bool) -> Tables:
    present = {shape.label: shape for shape in table_shapes()}
    for shape, rows in tables_of(reader, seen, whole=whole):
        wanted = present.get(shape.label)
        if wanted is None:
            for _ in rows:  # nobody keeps these any more; they are read all the same, to be verified
                pass
            continue
        if wanted.names == shape.names:
            yield wanted, rows
            continue
        if missing := set(wanted.names) - set(shape.names):
            raise BackupDamaged(f"Its rows of {shape.label} lack {', '.join(sorted(missing))}.")
        places = [shape.names.index(name) for name in wanted.names]
        yield wanted, ([row[place] for place in places] for row in rows)


def _of_scratch(alias: str, there: set[str]) -> Tables:
    for shape in table_shapes():
        # What was not kept when the backup was made is no part of it, unless a migration made it from something that was.
        if shape.label in there or count(alias, shape):
            yield shape, read_rows(alias, shape)
