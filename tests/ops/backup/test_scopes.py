"""Every model says what becomes of it in a backup, and every column is of a kind that backups know."""

from __future__ import annotations

from ops.backup import scopes
from ops.backup.shapes import from_json, table_shapes


def test_every_model_is_declared_and_every_declaration_is_of_a_model():
    assert scopes.undeclared() == [], "declare them in <app>/backup.py: kept, added, lookup, derived or excluded"
    assert scopes.unknown() == []


def test_a_model_that_nobody_declared_is_named(monkeypatch):
    known = dict(scopes._scopes)
    del known["chat.Message"]
    known["chat.Massage"] = known["chat.Turn"]
    monkeypatch.setattr(scopes, "_scopes", known)
    assert scopes.undeclared() == ["chat.Message"]
    assert "chat.Massage" in scopes.unknown()


def test_shapes_know_every_column_and_say_what_they_say_in_the_file():
    shapes = table_shapes()
    assert {shape.label for shape in shapes} == {model._meta.label for model, _ in scopes.backed_up()}
    assert from_json([shape.to_json() for shape in shapes]) == shapes
    kinds = {kind.name for kind in scopes.kinds()}
    assert {shape.kind for shape in shapes} <= kinds
