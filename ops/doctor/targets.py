"""What a target's text stands for: ``agent:42`` is a row with a page in the admin. Apps register their kinds."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db import models
from django.urls import NoReverseMatch, reverse

_kinds: dict[str, str] = {"service": "ops.Service"}


def register_target(kind: str, model_label: str) -> None:
    """``agent`` stands for rows of ``agents.Agent``; the id behind the colon is the primary key."""
    known = _kinds.setdefault(kind, model_label)
    if known != model_label:
        raise ValueError(f"The target kind {kind!r} is already registered for {known}.")


def target_of(row: models.Model) -> str:
    """``kind:id`` of a row, "" when its model is no target."""
    label = row._meta.label.lower()
    kind = next((kind for kind, known in _kinds.items() if known.lower() == label), "")
    return f"{kind}:{row.pk}" if kind else ""


def row_of(target: str) -> models.Model | None:
    """The row behind a target; None when there is none."""
    kind, _, key = target.partition(":")
    if kind not in _kinds or not key:
        return None
    model = apps.get_model(_kinds[kind])
    try:
        found: models.Model | None = model._default_manager.filter(pk=key).first()
    except (ValueError, TypeError):
        return None
    return found


def label_of(target: str) -> str:
    """The words for a target: its row's own, or the text itself."""
    row = row_of(target)
    return str(row) if row is not None else target


def labels_of(targets: list[str]) -> dict[str, str]:
    """``label_of`` for many, one query a kind."""
    found = {target: target for target in targets}
    wanted: dict[str, list[str]] = {}
    for target in targets:
        kind, _, key = target.partition(":")
        if kind in _kinds and key:
            wanted.setdefault(kind, []).append(key)
    for kind, keys in wanted.items():
        model = apps.get_model(_kinds[kind])
        try:
            rows: dict[Any, models.Model] = model._default_manager.in_bulk(keys)
        except (ValueError, TypeError):
            continue
        found |= {f"{kind}:{pk}": str(row) for pk, row in rows.items()}
    return found


def address_of(target: str) -> str:
    """The target's page in the admin, "" when it has none. Asks no database."""
    kind, _, key = target.partition(":")
    if kind not in _kinds or not key:
        return ""
    app, model = _kinds[kind].lower().split(".")
    try:
        return reverse(f"admin:{app}_{model}_change", args=[key])
    except NoReverseMatch:
        return ""
