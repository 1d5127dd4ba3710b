"""Rows as the lines that lie in a backup, in blocks of a few megabytes."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from ops.backup.rows import read_rows
from ops.backup.shapes import TableShape

BLOCK = 4 << 20


def read_lines(alias: str, shape: TableShape) -> Iterator[tuple[bytes, int]]:
    """(lines, number of them) in the order of the primary key, about ``BLOCK`` bytes each."""
    lines: list[bytes] = []
    size = 0
    for row in read_rows(alias, shape):
        line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
        lines.append(line)
        size += len(line)
        if size >= BLOCK:
            yield b"".join(lines), len(lines)
            lines, size = [], 0
    if lines:
        yield b"".join(lines), len(lines)
