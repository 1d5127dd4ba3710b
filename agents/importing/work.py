"""What appliers get in hand, and what they say when they are done."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from agents.matrix.errors import MatrixError
from agents.models import ImportChoice, MappingImportRow
from agents.services.backends import Homeserver
from ops.side_by_side import side_by_side


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a row. ``kept``: it was decided that nothing changes. ``target`` names what it became (``mapping:12``)."""

    result: Literal["done", "kept", "failed"]
    sentence: str = ""
    target: str = ""


@dataclass(slots=True)
class Task:
    """One row that is applied: ``fields`` as read (with secrets), ``data`` as planned, ``wish`` the side that was chosen."""

    row: MappingImportRow
    fields: dict[str, Any]
    data: dict[str, Any]
    wish: dict[str, Any]

    @classmethod
    def of(cls, row: MappingImportRow) -> Task:
        """The row's task. A row without a conflict follows its file."""
        kept = json.loads(row.record) if row.record else {}
        side = {ImportChoice.STORED: row.stored, ImportChoice.HOMESERVER: row.homeserver}.get(
            ImportChoice(row.choice), row.file
        )
        return cls(row, kept.get("fields", {}), kept.get("data", {}), dict(side))


@dataclass(slots=True)
class Work:
    """One application of one import. ``sessions`` are tokens and passwords of accounts that other files of it brought along."""

    homeserver: Homeserver
    actor: str
    sessions: dict[str, dict[str, str]] = field(default_factory=dict)
    reached: dict[int, Any] = field(default_factory=dict)

    def ahead(self, tasks: Sequence[Task], reach: Any) -> None:
        """Ask the homeserver for several rows side by side, before they are written one after the other."""

        def ask(task: Task) -> Any:
            try:
                return reach(self.homeserver, task)
            except MatrixError as error:
                return error

        for task, found in zip(tasks, side_by_side(ask, tasks), strict=True):
            self.reached[task.row.pk] = found


def failed(error: MatrixError | str) -> Done:
    """The row could not be applied; it may be tried again."""
    return Done("failed", (error.sentence if isinstance(error, MatrixError) else error)[:1000])
