"""Writes versions, in the transaction of the change: one look at the rows, one at their newest versions, one insertion."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import models
from django.db.models import Max

from ops.history.registry import Versioned, by_target, versioned, ways_to
from ops.models import ObjectVersion
from ops.redaction import redact_text
from ops.secrets import SecretUnreadable

BEGAN = "history.began"
_PORTION = 500


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that was done to an object: what the audit log says of it."""

    actor: str
    action: str
    message: str = ""
    before: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """An object as it is. ``secret`` is None where it cannot be read."""

    label: str
    state: dict[str, Any]
    secret: dict[str, Any] | None


def note(target: models.Model | str | None, deed: Deed) -> None:
    """Write what the target is now, if it keeps versions and is not what it was."""
    if isinstance(target, models.Model):
        note_each([(target, deed)])
    elif target:
        named, _, key = target.rpartition(":")
        kind = by_target(named)
        if kind is not None and kind.model is not None:
            _write(kind, {key: deed})


def note_each(targets: Iterable[tuple[models.Model, Deed]]) -> None:
    """``note`` for many rows, in few statements for all of a kind."""
    wanted: dict[str, dict[str, Deed]] = {}
    led: dict[tuple[str, str], dict[Any, Deed]] = {}
    for row, deed in targets:
        label = row._meta.label_lower
        if versioned(label) is not None:
            wanted.setdefault(label, {})[str(row.pk)] = deed
        for kind_name, lookup in ways_to(label):
            led.setdefault((kind_name, lookup), {})[row.pk] = deed
    for (kind_name, lookup), deeds in led.items():
        kind = versioned(kind_name)
        if kind is None or kind.model is None:
            continue
        for part in _portions(list(deeds)):
            found = kind.model._default_manager.filter(**{f"{lookup}__in": part}).values_list("pk", lookup)
            for pk, key in found:
                wanted.setdefault(kind_name, {}).setdefault(str(pk), deeds[key])
    for label, deeds_of_kind in wanted.items():
        known = versioned(label)
        assert known is not None
        _write(known, deeds_of_kind)


def note_value(
    *, model: str, object_id: str, label: str, before: Mapping[str, Any], after: Mapping[str, Any], deed: Deed
) -> None:
    """A version of something without rows of its own (a text that a server keeps). ``before`` becomes one too where nobody knew it."""
    newest = ObjectVersion.objects.filter(model=model, object_id=object_id[:255]).order_by("-id").first()
    rows = []
    if newest is None or newest.state != dict(before):
        began = Deed("system", BEGAN, "Before the first change from here." if newest is None else "Changed elsewhere.")
        rows.append(_row(model, object_id, Seen(label, dict(before), {}), began))
    rows.append(_row(model, object_id, Seen(label, dict(after), {}), deed))
    ObjectVersion.objects.bulk_create(rows)


def look(kind: Versioned, keys: Iterable[Any]) -> dict[str, Seen]:
    """The objects of a kind as they are in the database now, by primary key; those that are gone are missing."""
    assert kind.model is not None
    rows = list(kind.model._base_manager.filter(pk__in=list(keys)))
    more = kind.more(rows) if kind.more is not None and rows else {}
    return {
        str(row.pk): Seen(
            redact_text(str(row))[:255],
            {name: portable(_value(row, name)) for name in kind.fields} | portable(more.get(row.pk, {})),
            _secret(kind, row),
        )
        for row in rows
    }


def write_began(kind: Versioned, keys: Iterable[Any]) -> int:
    """First versions of objects that have none."""
    rows = [
        _row(kind.name, key, seen, Deed("system", BEGAN, "As it was when its history began."))
        for key, seen in look(kind, keys).items()
    ]
    ObjectVersion.objects.bulk_create(rows)
    return len(rows)


def write_found(kind: Versioned, keys: Sequence[str], deed: Deed, *, gone: bool = False) -> int:
    """Versions of those objects that are not what their newest version says; ``gone``: of those whose newest one does not say that they went.

    Objects without any version are left to ``write_began``. Returns how many were written.
    """
    newest = _newest(kind.name, list(keys)) if keys else {}
    rows = []
    if gone:
        for key, last in newest.items():
            if not last.deleted:
                kept = Seen(last.label, last.state, {})
                row = _row(kind.name, key, kept, deed, gone=True)
                # As it lies there: it need not be opened to be kept.
                row.__dict__["secret"] = last.__dict__["secret"]
                rows.append(row)
    else:
        for key, now in look(kind, newest).items():
            last = newest[key]
            if last.deleted or not same(kind, last, now):
                rows.append(_row(kind.name, key, now, deed))
    ObjectVersion.objects.bulk_create(rows)
    return len(rows)


def portable(value: Any) -> Any:
    """A value as JSON holds it, the same on every database."""
    if isinstance(value, Mapping):
        return {str(name): portable(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [portable(inner) for inner in value]
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, (UUID, Decimal)):
        return str(value)
    if isinstance(value, str):
        # Choices and the like are texts with a class of their own.
        return str.__str__(value)
    return value


def _write(kind: Versioned, deeds: Mapping[str, Deed]) -> None:
    for part in _portions(list(deeds)):
        seen = look(kind, part)
        newest = _newest(kind.name, part)
        rows: list[ObjectVersion] = []
        for key in part:
            now, deed, last = seen.get(key), deeds[key], newest.get(key)
            if now is not None:
                rows += _rows_of(kind, key, now, deed, last)
        if rows:
            ObjectVersion.objects.bulk_create(rows)


def _rows_of(kind: Versioned, key: str, now: Seen, deed: Deed, last: ObjectVersion | None) -> list[ObjectVersion]:
    gone = deed.action in kind.gone_by
    if (
        last is not None
        and not gone
        and not last.deleted
        and deed.action not in kind.deliberate
        and same(kind, last, now)
    ):
        return []
    rows = []
    if last is None and (earlier := _earlier(now, deed)) is not None:
        rows.append(_row(kind.name, key, earlier, Deed("system", BEGAN, "As the change found it.")))
    return [*rows, _row(kind.name, key, now, deed, gone=gone)]


def same(kind: Versioned, last: ObjectVersion, now: Seen) -> bool:
    """Whether an object is what its version says, apart from what is only observed."""
    names = ({*last.state} | {*now.state}) - kind.observed
    if any(last.state.get(name) != now.state.get(name) for name in names):
        return False
    if not kind.secret_fields or now.secret is None:
        return True
    try:
        return dict(last.secret or {}) == now.secret
    except SecretUnreadable:
        return False


def _earlier(now: Seen, deed: Deed) -> Seen | None:
    """What the object was before a change, as far as the audit log was told; None when it was told nothing of it."""
    told = {name: portable(value) for name, value in (deed.before or {}).items() if name in now.state}
    if not any(now.state[name] != value for name, value in told.items()):
        return None
    return Seen(now.label, {**now.state, **told}, now.secret)


def _newest(model: str, keys: list[str]) -> dict[str, ObjectVersion]:
    rows = ObjectVersion.objects.filter(model=model, object_id__in=keys)
    if len(keys) == 1:
        first = rows.order_by("-id").first()
        return {} if first is None else {keys[0]: first}
    newest = rows.order_by().values("object_id").annotate(newest=Max("id")).values("newest")
    return {row.object_id: row for row in ObjectVersion.objects.filter(pk__in=newest)}


def _row(model: str, key: str, seen: Seen, deed: Deed, *, gone: bool = False) -> ObjectVersion:
    return ObjectVersion(
        model=model,
        object_id=str(key)[:255],
        label=seen.label[:255],
        actor=(deed.actor or "system")[:255],
        action=deed.action[:100],
        message=redact_text(deed.message)[:500],
        # As it is, to be brought back as it was: what looks like a secret is hidden where it is shown.
        state=seen.state,
        secret=seen.secret or {},
        deleted=gone,
    )


def _value(row: models.Model, name: str) -> Any:
    return getattr(row, row._meta.get_field(name).attname)  # type: ignore[union-attr]


def _secret(kind: Versioned, row: models.Model) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for name in kind.secret_fields:
        try:
            value = _value(row, name)
        except SecretUnreadable:
            return None
        # A plain copy: what shows no secrets when it is printed must not end up as its own mask.
        found[name] = json.loads(json.dumps(value))
    return {name: value for name, value in found.items() if value not in ("", {}, None)}


def _portions(keys: list[Any]) -> Iterable[list[Any]]:
    return (keys[start : start + _PORTION] for start in range(0, len(keys), _PORTION))
