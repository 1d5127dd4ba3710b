"""Memory blocks in one small JSON file, ``{agent id: {label: value}}``, or in the process when there is no place for one."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from pathlib import Path

from agents.backends.base import MemoryBlock
from agents.backends.errors import BackendRejected, BackendUnavailable
from ops.words import counted

LIMIT = 4000
DESCRIPTIONS = {
    "notes": "What people asked to be remembered, one note a line.",
    "desk": "How the Librarian sees the work.",
}
READ_ONLY = {"desk"}
FIRST_VALUES = {
    "notes": "Switchboard keeps this memory; an operator can read and edit it.",
    "desk": "I keep notes, word for word, and give them back when asked.",
}

# One lock for all files: two backends may be opened on the same one when a service's settings change.
_lock = threading.RLock()
_in_process: dict[str, dict[str, str]] = {}


class MemoryFile:
    """Blocks by agent id. Writes replace the whole file, so that a crash leaves the old or the new one."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def blocks(self, agent_id: str) -> list[MemoryBlock]:
        with _lock:
            values = {**FIRST_VALUES, **self._read().get(agent_id, {})}
        return [self._block(agent_id, label, values[label]) for label in sorted(values)]

    def write(self, agent_id: str, label: str, value: str, *, by_agent: bool = False) -> MemoryBlock:
        """Raises ``BackendRejected`` for an unknown or read-only label or a value over its limit."""
        if label not in DESCRIPTIONS:
            raise BackendRejected(f"There is no memory block {label!r}; there are {', '.join(sorted(DESCRIPTIONS))}.")
        if label in READ_ONLY:
            raise BackendRejected(f"The memory block {label!r} is read-only.")
        if len(value) > LIMIT:
            who = (
                "The notes are full"
                if by_agent
                else f"{counted(len(value), 'character does not fit', 'characters do not fit')} into {label!r}"
            )
            raise BackendRejected(f"{who}: it takes {LIMIT} characters.")
        with _lock:
            everything = self._read()
            everything.setdefault(agent_id, {})[label] = value
            self._save(everything)
        return self._block(agent_id, label, value)

    def add_note(self, agent_id: str, note: str) -> None:
        """Append one line to ``notes``, unless it stands there already: a repeated message is noted once."""
        with _lock:
            held = next(block.value for block in self.blocks(agent_id) if block.label == "notes")
            if note not in held.splitlines():
                self.write(agent_id, "notes", f"{held}\n{note}".strip(), by_agent=True)

    def problem(self) -> str:
        """Why the file cannot be used, or "" when it can."""
        try:
            with _lock:
                self._read()
        except BackendUnavailable as error:
            return error.reason
        return ""

    @staticmethod
    def _block(agent_id: str, label: str, value: str) -> MemoryBlock:
        return MemoryBlock(
            label, value, DESCRIPTIONS.get(label, ""), LIMIT, label in READ_ONLY, id=f"demo-block-{agent_id}-{label}"
        )

    def _read(self) -> dict[str, dict[str, str]]:
        if self.path is None:
            return _in_process
        try:
            data = json.loads(self.path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise BackendUnavailable(f"The demo agents' memory file {self.path.name} cannot be read: {error}") from None
        if not isinstance(data, dict) or not all(isinstance(value, dict) for value in data.values()):
            raise BackendUnavailable(
                f"The demo agents' memory file {self.path.name} is not an object of objects; remove it."
            )
        return data

    def _save(self, everything: dict[str, dict[str, str]]) -> None:
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(everything, file, ensure_ascii=False, indent=1)
            os.replace(name, self.path)
        except OSError as error:
            raise BackendUnavailable(
                f"The demo agents' memory file {self.path.name} cannot be written: {error}"
            ) from None
