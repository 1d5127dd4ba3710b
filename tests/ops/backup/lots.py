"""Files beside the rows that a test gives."""

from __future__ import annotations

import io

from ops.backup.components import FilePart


class Lot:
    """A component of files that a test gives."""

    label, kind, optional = "A lot", "settings", False

    def __init__(self, name="lot", files=(), why="", optional=False):
        self.name, self._files, self._why, self.optional = name, files, why, optional

    def unavailable(self):
        return self._why

    def files(self, cut):
        for file in self._files:
            if isinstance(file, Exception):
                raise file
            yield file

    def put(self, files, putting):
        return {}


def part(name, data, size=None):
    return FilePart(name, len(data) if size is None else size, lambda: io.BytesIO(data))
