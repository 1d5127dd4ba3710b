"""A difference as JSON for people: what ``Restore.plan`` holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
from django.apps import apps

from ops.backup.diff import Difference, TableDifference
from ops.backup.references import Resolution
from ops.backup.scopes import kinds, scope_of
from ops.backup.shapes import Column, TableShape
from ops.findings import Finding
from ops.redaction import HIDDEN, is_secret_name
from ops.words import counted, verb

_LONGEST = 300
# Fields that name a thing to people, the best first.
_NAMES = (
    "username",
    "name",
    "title",
    "label",
    "user_id",
    "room_id",
    "key",
    "action",
    "text",
    "email",
    "pattern",
    "digest",
)
# Of no use to anybody, and enough to guess a password or to find a token.
_HIDDEN = frozenset({"password", "digest", "secret", "salt"})


def plan_json(difference: Difference) -> dict[str, Any]:
    """``{"models": [...], "added", "changed", "removed", "kept", "same", "kinds": {kind: {...}}, "since": {name: what was made since the cut
    and stays}}``; tables without a row on either side are left out."""
    tables = [_table(one, difference.resolution) for one in difference.tables]
    shown = [one for one in tables if any(one[what] for what in _COUNTS)]
    sums = {what: sum(one[what] for one in shown) for what in _COUNTS}
    by_kind = {
        kind.name: {"label": kind.label}
        | {what: sum(one[what] for one in shown if one["kind"] == kind.name) for what in _COUNTS}
        for kind in kinds()
        if any(one["kind"] == kind.name for one in shown)
    }
    since = difference.since
    return {"models": shown, "kinds": by_kind, **sums, **({"since": since.report} if since is not None else {})}


_COUNTS = ("added", "changed", "removed", "kept", "same")


def _table(one: TableDifference, resolution: Resolution) -> dict[str, Any]:
    shape = one.shape
    examples = [_example(shape, what, before, after) for what, before, after in one.examples]
    examples += [_example(shape, "kept", row, row) for row in resolution.examples.get(f"kept:{shape.label}", [])[:5]]
    return {
        "model": shape.label,
        "label": str(apps.get_model(shape.label)._meta.verbose_name_plural).capitalize(),
        "kind": shape.kind,
        "added": one.added,
        "changed": one.changed,
        "removed": one.removed,
        "kept": one.kept,
        "same": one.same,
        "examples": examples,
    }


def _example(shape: TableShape, what: str, before: list[Any] | None, after: list[Any] | None) -> dict[str, Any]:
    row = after if after is not None else before
    assert row is not None
    columns = list(enumerate(shape.columns))
    if what == "changed" and before is not None and after is not None:
        columns = [(place, column) for place, column in columns if before[place] != after[place]]
    return {
        "what": what,
        "label": row_label(shape, row),
        "before": _shown(columns, before) if before is not None and what != "kept" else None,
        "after": _shown(columns, after) if after is not None and what != "kept" else None,
    }


def _shown(columns: Iterable[tuple[int, Column]], row: list[Any]) -> dict[str, Any]:
    return {column.field: shown_value(column, row[place]) for place, column in columns}


def shown_value(column: Column, value: Any) -> Any:
    """A value for people: without secrets, and not too long."""
    if value in (None, "", "{}", "[]"):
        return value
    if column.type == "secret" or column.field in _HIDDEN or is_secret_name(column.field):
        return HIDDEN
    if column.type == "json":
        parsed = orjson.loads(value)
        return _without_secrets(parsed) if len(value) <= _LONGEST else value[:_LONGEST] + "…"
    if isinstance(value, str) and len(value) > _LONGEST:
        return value[:_LONGEST] + "…"
    return value


def _without_secrets(value: Any) -> Any:
    from ops.redaction import redact

    return redact(value)


def row_label(shape: TableShape, row: list[Any]) -> str:
    """What a row is called."""
    values = {column.field: row[place] for place, column in enumerate(shape.columns) if column.type != "secret"}
    scope = scope_of(shape.label)
    for name in (*_NAMES, *(scope.natural if scope is not None else ())):
        if name not in _HIDDEN and isinstance(values.get(name), str) and values[name]:
            return " ".join(str(values[name]).split())[:80]
    return f"number {row[shape.pk_index]}"


def findings_of(difference: Difference) -> list[Finding]:
    """What somebody should know before agreeing."""
    found: list[Finding] = [*difference.since.findings] if difference.since is not None else []
    resolution = difference.resolution
    for what, number in resolution.left_out.items():
        label = what.rpartition(".")[0]
        names = _names(difference, f"left_out:{label}")
        found.append(
            Finding(
                "warning",
                "restore.left_out",
                f"{counted(number, 'row')} of {_plural(label)} {verb(number, 'is', 'are')} left out: {what} refers to something that is neither "
                f"restored nor here{names}.",
                label,
                {"reference": what, "rows": number},
            )
        )
    for what, number in resolution.emptied.items():
        found.append(
            Finding(
                "info",
                "restore.emptied",
                f"{counted(number, 'reference')} of {what} {verb(number, 'is', 'are')} emptied: what {verb(number, 'it refers', 'they refer')} to is "
                "neither restored nor here.",
                what,
                {"rows": number},
            )
        )
    for label, number in resolution.kept.items():
        names = _names(difference, f"kept:{label}")
        found.append(
            Finding(
                "info",
                "restore.kept",
                f"{counted(number, 'row')} of {_plural(label)} that the backup does not know {verb(number, 'stays', 'stay')}, since rows that are "
                f"not restored need {verb(number, 'it', 'them')}{names}.",
                label,
                {"rows": number},
            )
        )
    for label, number in resolution.opening.items():
        names = _names(difference, f"opening:{label}")
        found.append(
            Finding(
                "info",
                "restore.opens_still",
                f"{counted(number, 'row')} of {_plural(label)} that the backup does not know {verb(number, 'stays', 'stay')}: the secret in "
                f"{verb(number, 'it', 'them')} is known nowhere else{names}.",
                label,
                {"rows": number},
            )
        )
    if difference.revoked:
        number = difference.revoked
        found.append(
            Finding(
                "info",
                "restore.stays_revoked",
                f"{counted(number, 'thing')} that {verb(number, 'was', 'were')} revoked since the backup {verb(number, 'stays', 'stay')} revoked.",
            )
        )
    for where, number in difference.sealed.unreadable.items():
        found.append(
            Finding(
                "warning",
                "restore.secret_unreadable",
                f"{counted(number, 'secret')} of {where} cannot be opened with the backup's keys or ours: enter "
                f"{verb(number, 'it', 'them')} again after the restore.",
                where,
            )
        )
    for label in difference.untouched:
        found.append(
            Finding(
                "info",
                "restore.not_in_backup",
                f"The backup is from before there were {_plural(label)}: those here stay as they are.",
                label,
            )
        )
    return found


def _names(difference: Difference, what: str) -> str:
    rows = difference.resolution.examples.get(what, [])
    shapes = {one.shape.label: one.shape for one in difference.tables}
    shape = shapes.get(what.partition(":")[2])
    names = ", ".join(row_label(shape, row) for row in rows[:3]) if shape is not None else ""
    return f" ({names})" if names else ""


def _plural(label: str) -> str:
    return str(apps.get_model(label)._meta.verbose_name_plural)
