"""The file of rejects: what could not be taken, each with its reason, in a form that can be mended and imported again.

``{"switchboard_rejects": 1, "records": [{"kind", "source", "line", "key", "why", "record"}]}``; a part of a file that could not be read
at all is ``{"kind": "broken", …, "text"}``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from agents.importing.loose_json import Broken, Entry, entries
from agents.importing.records import BROKEN, Raw

MARK = "switchboard_rejects"
_HELP = (
    "Mend each record here and import this file again. It may hold passwords: keep it safe, and delete it afterwards."
)


def is_rejects(value: Any) -> bool:
    """Whether an entry of the outermost object says that this is such a file."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def raws(record: Any, source: str, line: int | None, column: int | None) -> Iterator[Raw | Broken]:
    """What one record of the file holds: an entry, or what its mended text holds now."""
    if not isinstance(record, dict):
        return
    came_from, key = str(record.get("source") or source)[:255], str(record.get("key") or "")
    kind = str(record.get("kind") or "")
    if kind == BROKEN:
        yield from _mended(str(record.get("text") or "").strip().rstrip(","), came_from, line, column)
        return
    yield Raw(key, record.get("record"), came_from, line, column, hint=kind)


def _mended(text: str, source: str, line: int | None, column: int | None) -> Iterator[Raw | Broken]:
    """A text that an operator was to mend: with or without its key, with or without the bracket that closed the whole file."""
    found: list[Entry | Broken] = []
    for whole in ("{" + text + "}", "{" + text, f"[{text}]", text):
        found = list(entries(whole))
        if found and not any(isinstance(one, Broken) for one in found):
            break
    else:
        broken = [one for one in entries("{" + text) if isinstance(one, Broken)]
        found = []
        found.append(broken[0] if broken else Broken(text, 0, 0, "It is empty"))
    for one in found:
        if isinstance(one, Broken):
            yield Broken(text, 0, max(0, one.at - 1), one.reason, one.cut_off)
        else:
            yield Raw(one.key, one.value, source, line, column)


def write(records: Iterable[dict[str, Any]]) -> bytes:
    """The file's bytes; each record as above."""
    body = {MARK: 1, "help": _HELP, "records": list(records)}
    return (json.dumps(body, ensure_ascii=False, indent=2) + "\n").encode(errors="replace")
