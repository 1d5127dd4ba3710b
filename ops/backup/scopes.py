"""What of every model goes into a backup. Each app declares its own (``<app>/backup.py``); a test fails for a model that nobody declared.

* ``kept``: the rows are backed up, and a restore makes the present rows equal to them;
* ``added``: the rows are backed up, and a restore adds what is missing and removes nothing (logs of what happened);
* ``lookup``: rows that migrations make, with numbers that differ between databases: backed up so that references to them can be found again
  by ``natural``, never written;
* ``derived``: made again from other rows;
* ``excluded``: not backed up, for the reason that ``why`` gives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from django.apps import apps
from django.db import models

Policy = Literal["kept", "added", "lookup", "derived", "excluded"]
BACKED_UP: tuple[Policy, ...] = ("kept", "added", "lookup")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of rows that can be restored by itself (``restore --only``)."""

    name: str
    label: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Scope:
    """What becomes of one model. ``label`` is the model's (``chat.Message``).

    ``natural``: fields by which the same thing is known in two databases; when a row with another number says that it is the same thing,
    references are moved to the restored one. ``observed``: fields that say what was last seen outside: they count for no difference, and
    of rows that exist the present values stay. ``revoked``: fields that once set stay set although the backup says otherwise
    (what was revoked since does not come back to life); a boolean field is "set" when it is False. ``opens``: a secret that opens something
    outside, and the fields that say how that went: it may have been changed there since, or be known nowhere but in its row. So where there
    is one that can be read, these present values stay, and so does a row that the backup does not know.
    """

    label: str
    policy: Policy
    kind: str = ""
    why: str = ""
    natural: tuple[str, ...] = ()
    observed: tuple[str, ...] = ()
    revoked: tuple[str, ...] = ()
    opens: tuple[str, ...] = ()


_kinds: dict[str, Kind] = {}
_scopes: dict[str, Scope] = {}


def register_kind(name: str, *, label: str, sentence: str) -> Kind:
    """Make a kind known; the order of registration is the order on pages."""
    _kinds[name] = Kind(name, label, sentence)
    return _kinds[name]


def kinds() -> list[Kind]:
    """All kinds, in the order of registration."""
    return list(_kinds.values())


def declare(
    label: str,
    policy: Policy,
    *,
    kind: str = "",
    why: str = "",
    natural: Iterable[str] = (),
    observed: Iterable[str] = (),
    revoked: Iterable[str] = (),
    opens: Iterable[str] = (),
) -> Scope:
    """Say what becomes of a model. Raises ``ValueError`` for a declaration that says too little, or two that differ."""
    if policy in BACKED_UP and not kind:
        raise ValueError(f"{label}: say of which kind its rows are.")
    if policy in ("derived", "excluded") and not why:
        raise ValueError(f"{label}: say why it is {policy}.")
    scope = Scope(label, policy, kind, why, tuple(natural), tuple(observed), tuple(revoked), tuple(opens))
    if _scopes.setdefault(label, scope) != scope:
        raise ValueError(f"{label} is declared twice, and differently.")
    return scope


def declare_all(policy: Policy, why: str, *labels: str) -> None:
    """``declare`` for several models that have one reason."""
    for label in labels:
        declare(label, policy, why=why)


def scope_of(model: type[models.Model] | str) -> Scope | None:
    """A model's scope; None: nobody declared it."""
    return _scopes.get(model if isinstance(model, str) else model._meta.label)


def tables() -> Iterator[type[models.Model]]:
    """All models with a table of their own, those behind many-to-many fields among them."""
    for model in apps.get_models(include_auto_created=True):
        if model._meta.managed and not model._meta.proxy:
            yield model


def backed_up() -> list[tuple[type[models.Model], Scope]]:
    """The models whose rows go into a backup, in an order in which what is referred to comes first where there is no circle."""
    found = {model: scope for model in tables() if (scope := scope_of(model)) and scope.policy in BACKED_UP}
    ordered: list[type[models.Model]] = []
    at_work: set[type[models.Model]] = set()

    def visit(model: type[models.Model]) -> None:
        if model in ordered or model in at_work or model not in found:
            return
        at_work.add(model)
        for field in model._meta.local_fields:
            related = field.related_model
            if isinstance(related, type) and related is not model:
                visit(related)
        at_work.discard(model)
        ordered.append(model)

    for model in sorted(found, key=lambda one: one._meta.label):
        visit(model)
    return [(model, found[model]) for model in ordered]


def undeclared() -> list[str]:
    """Labels of models that nobody declared."""
    return sorted(model._meta.label for model in tables() if scope_of(model) is None)


def unknown() -> list[str]:
    """Declared labels that are no model, and declared fields that their model does not have."""
    known = {model._meta.label: model for model in tables()}
    wrong = [label for label in _scopes if label not in known]
    for label, scope in _scopes.items():
        names = {field.name for field in known[label]._meta.local_fields} if label in known else set()
        declared = (*scope.natural, *scope.observed, *scope.revoked, *scope.opens)
        wrong += [f"{label}.{name}" for name in declared if name not in names]
    return sorted(wrong)
