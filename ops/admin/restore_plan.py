"""What a restore would change, for its page: per kind and per sort of row, with examples; and what it came to, in lines."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ops import html
from ops.backup.scopes import kinds

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z")
COUNTS = ("added", "changed", "removed", "kept", "same")
_FIELDS = 12
# A row that comes or goes is recognised by what stands in it; numbers and passwords say nothing.
_TELLING = 6
_SILENT = frozenset({"id", "password"})


@dataclass(slots=True)
class Example:
    """One row as it is and as it would be. ``lines``: ``[(field, before, after)]``, only what differs."""

    what: str
    label: str
    lines: list[tuple[str, Any, Any]] = field(default_factory=list)
    more: int = 0


@dataclass(slots=True)
class Sort:
    """The rows of one model."""

    label: str
    model: str
    counts: dict[str, int]
    examples: list[Example]


@dataclass(slots=True)
class Group:
    """The sorts of one kind."""

    label: str
    sorts: list[Sort]
    same: list[str]
    counts: dict[str, int]

    @property
    def changes(self) -> int:
        return changes_of(self.counts)


def changes_of(counts: dict[str, int]) -> int:
    """Rows that would be other rows afterwards."""
    return counts["added"] + counts["changed"] + counts["removed"]


def totals_of(plan: dict[str, Any]) -> dict[str, int]:
    """``{added, changed, removed, kept, same, changes}`` of the whole plan."""
    totals = dict.fromkeys(COUNTS, 0)
    for one in plan.get("models") or ():
        for name in COUNTS:
            totals[name] += int(one.get(name) or 0)
    return {**totals, "changes": changes_of(totals)}


def groups_of(plan: dict[str, Any]) -> list[Group]:
    """The plan by kind, in the order of the kinds; sorts without a change are only named."""
    labels = {kind.name: kind.label for kind in kinds()}
    found: dict[str, Group] = {}
    for one in plan.get("models") or ():
        kind = str(one.get("kind") or "")
        group = found.setdefault(
            kind, Group(labels.get(kind, kind.capitalize() or "Other"), [], [], dict.fromkeys(COUNTS, 0))
        )
        counts = {name: int(one.get(name) or 0) for name in COUNTS}
        for name in COUNTS:
            group.counts[name] += counts[name]
        label = str(one.get("label") or one.get("model") or "")
        if changes_of(counts) or counts["kept"]:
            examples = [example_of(each) for each in one.get("examples") or ()]
            group.sorts.append(Sort(label, str(one.get("model") or ""), counts, examples))
        elif counts["same"]:
            group.same.append(f"{label} ({counts['same']:,})")
    order = list(labels)
    return sorted(found.values(), key=lambda group: order.index(_name(labels, group.label)))


def _name(labels: dict[str, str], label: str) -> str:
    return next((name for name, one in labels.items() if one == label), next(reversed(labels)))


def example_of(one: dict[str, Any]) -> Example:
    """Before and after side by side, field by field."""
    before, after = one.get("before"), one.get("after")
    what, label = str(one.get("what") or ""), str(one.get("label") or "")
    if not isinstance(before, dict) and not isinstance(after, dict):
        lines = [("", before, after)] if before is not None or after is not None else []
        return Example(what, label, lines)
    old, new = before if isinstance(before, dict) else {}, after if isinstance(after, dict) else {}
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if not old or not new:
        names = [
            name
            for name in names
            if name not in _SILENT and (old.get(name) or new.get(name)) not in (None, "", "[]", "{}", [], {}, False)
        ]
        said = [(name.replace("_", " "), text_of(old.get(name)), text_of(new.get(name))) for name in names]
        return Example(what, label, said[:_TELLING])
    lines = [(name.replace("_", " "), text_of(old.get(name)), text_of(new.get(name))) for name in names]
    return Example(what, label, lines[:_FIELDS], max(0, len(lines) - _FIELDS))


def text_of(value: Any) -> str | None:
    """A value as it stands, so that two that differ little are seen to differ; None: it is not there."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, sort_keys=True) if value else "empty"
    text = str(value)
    if _MOMENT.fullmatch(text):
        return html.exact(datetime.fromisoformat(text))
    return text or "empty"


def parts_lines(parts: dict[str, Any]) -> list[tuple[str, str]]:
    """``[(part, what of it)]``: files that come back besides rows."""
    lines = []
    for name, one in (parts or {}).items():
        if isinstance(one, dict):
            said = str(one.get("sentence") or "") or ", ".join(
                f"{value} {key}" for key, value in one.items() if key != "label"
            )
            lines.append((str(one.get("label") or name), said))
        else:
            lines.append((str(name), str(one)))
    return lines


def report_lines(report: dict[str, Any]) -> list[tuple[str, str, list[str]]]:
    """``[(lamp, title, sentences)]`` of what a restore came to; each step says its own."""
    lines: list[tuple[str, str, list[str]]] = []
    for name, one in (report or {}).items():
        title = str(name).replace("_", " ").replace(".", " ").capitalize()
        if isinstance(one, dict):
            sentences = _sentences(one)
            if one.get("error") and str(name).startswith("outside."):
                sentences.append("What this step does is also done by the syncs and checks that follow.")
            failed = bool(one.get("error")) or one.get("ok") is False
            mark = "trouble" if failed else "off" if one.get("waits") else "good"
            lines.append((mark, str(one.get("label") or title), sentences))
        elif isinstance(one, list):
            lines.append(("good", title, [_said(each) for each in one]))
        elif one not in (None, "", 0, False):
            lines.append(("good", title, [str(one)]))
    return lines


def _sentences(one: dict[str, Any]) -> list[str]:
    found = [str(one[name]) for name in ("error", "sentence") if one.get(name)]
    for name in ("sentences", "findings", "lines"):
        found += [_said(each) for each in one.get(name) or ()]
    if not found:
        found = [
            f"{key.replace('_', ' ')}: {value}" for key, value in one.items() if key not in ("ok", "label") and value
        ]
    return found


def _said(one: Any) -> str:
    return str(one.get("sentence") or one) if isinstance(one, dict) else str(one)
