"""Which models keep versions, of which of their fields, and how an earlier one is brought back. Apps register theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.apps import apps
from django.db import models

from ops.secrets import EncryptedField


class CannotBringBack(Exception):
    """Nothing was changed. ``sentence`` says why, and what to do; ``code`` is stable."""

    def __init__(self, sentence: str, *, code: str = "version.refused") -> None:
        super().__init__(sentence)
        self.sentence, self.code = sentence, code


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an object is to be again. ``present`` is the object as it is now; ``None``: it is gone.

    ``secret`` is ``None`` where it cannot be read any more: what is stored now stays.
    """

    object_id: str
    label: str
    state: Mapping[str, Any]
    secret: Mapping[str, Any] | None
    present: Any
    actor: str


@dataclass(frozen=True, slots=True)
class Done:
    """What came of it: a sentence for people, and the object (a deleted one may have another number now)."""

    sentence: str
    object_id: str = ""


BringBack = Callable[[Wanted], Done]


@dataclass(frozen=True, slots=True)
class Versioned:
    """A kind of objects that keep versions.

    ``name`` is the model's (``ops.service``), or another name for what has no rows of its own. ``more(rows)`` gives further parts of the
    state by primary key, for all rows in few queries. ``observed`` are parts of the state that servers say: kept, and shown, but alone they make
    no version (but for the ``deliberate`` actions). ``gone_by``: actions of the audit log after which the object is no more. ``target``:
    how the audit log names it where it does so in words. ``through``: models whose changes are changes of this one, with the field that leads there.
    """

    name: str
    label: str
    bring_back: BringBack
    model: type[models.Model] | None = None
    fields: tuple[str, ...] = ()
    secret_fields: tuple[str, ...] = ()
    more: Callable[[list[Any]], dict[Any, dict[str, Any]]] | None = None
    observed: frozenset[str] = frozenset()
    deliberate: frozenset[str] = frozenset()
    gone_by: frozenset[str] = frozenset()
    target: str = ""
    through: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    def label_of(self, name: str) -> str:
        """How a part of the state is called on pages."""
        first, _, rest = name.partition(".")
        known = self.labels.get(first)
        if known is None and self.model is not None and first in self.fields:
            known = str(getattr(self.model._meta.get_field(first), "verbose_name", first))
        shown = (known or first.replace("_", " ")).capitalize()
        return f"{shown}: {rest.replace('_', ' ')}" if rest else shown


_kinds: dict[str, Versioned] = {}
_targets: dict[str, str] = {}
_through: dict[str, list[tuple[str, str]]] = {}


def register_versioned(
    model: str,
    *,
    label: str,
    bring_back: BringBack,
    fields: Iterable[str] = (),
    secret_fields: Iterable[str] = (),
    more: Callable[[list[Any]], dict[Any, dict[str, Any]]] | None = None,
    observed: Iterable[str] = (),
    deliberate: Iterable[str] = (),
    gone_by: Iterable[str] = (),
    target: str = "",
    through: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Versioned:
    """Let objects of a model (``ops.Service``) keep versions, or of something without rows of its own. See ``Versioned``.

    Raises ``ValueError`` when a secret would stand among what is no secret.
    """
    known = _model(model)
    fields, secret_fields = tuple(fields), tuple(secret_fields)
    if known is not None:
        for name in fields:
            if isinstance(known._meta.get_field(name), EncryptedField):
                raise ValueError(f"{model}.{name} is a secret; name it among the secret fields.")
    name = model.lower()
    _kinds[name] = Versioned(
        name, label, bring_back, known, fields, secret_fields, more, frozenset(observed), frozenset(deliberate),
        frozenset(gone_by), target, dict(through or {}), dict(labels or {}),
    )  # fmt: skip
    if target:
        _targets[target] = name
    for other, lookup in (through or {}).items():
        ways = _through.setdefault(other.lower(), [])
        if (name, lookup) not in ways:
            ways.append((name, lookup))
    return _kinds[name]


def _model(name: str) -> type[models.Model] | None:
    try:
        return apps.get_model(name)
    except LookupError:
        return None


def versioned_kinds() -> list[Versioned]:
    """All kinds, by name."""
    return [_kinds[name] for name in sorted(_kinds)]


def versioned(model: models.Model | type[models.Model] | str) -> Versioned | None:
    """The kind of an object, a model or a name; None: it keeps no versions."""
    return _kinds.get(model.lower() if isinstance(model, str) else model._meta.label_lower)


def by_target(target_type: str) -> Versioned | None:
    """The kind that the audit log names so in words."""
    return _kinds.get(_targets.get(target_type, target_type.lower()))


def ways_to(model_label: str) -> list[tuple[str, str]]:
    """Kinds whose objects change with rows of a model: ``[(kind, field that leads from it to the row)]``."""
    return _through.get(model_label, [])
