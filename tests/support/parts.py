"""What a component takes along and puts back, without a backup in between."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ops.backup.components import Component, Cut, Putting
from ops.findings import Finding


class Luggage:
    """``take`` reads a component's files into memory; ``put`` gives them to it. ``findings`` is what it said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, bytes] = {}
        self.findings: list[Finding] = []

    def take(self, component: Component, **extra: Any) -> dict[str, bytes]:
        self.findings = []
        self.files = {}
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        for part in component.files(Cut("default", scratch, self.findings.append, extra=extra)):
            with part.open() as file:
                data = b""
                while chunk := file.read(7):
                    data += chunk
            assert len(data) == part.size
            assert part.name not in self.files
            self.files[part.name] = data
        return self.files

    def put(
        self,
        component: Component,
        data_dir: Path,
        files: dict[str, bytes] | None = None,
        *,
        drill: bool = False,
        **extra: Any,
    ) -> dict[str, int]:
        self.findings = []
        given = self.files if files is None else files
        streams = ((name, len(data), io.BytesIO(data)) for name, data in given.items())
        return component.put(streams, Putting(data_dir, "default", drill, self.findings.append, extra=extra))

    @property
    def codes(self) -> list[str]:
        return [one.code for one in self.findings]
