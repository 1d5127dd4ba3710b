"""The tables that a database has while its migrations are behind the code: a backup before an upgrade is made of these."""

from __future__ import annotations

from django.db import connections
from django.db.migrations.loader import MigrationLoader

from ops.backup.scopes import scope_of
from ops.backup.shapes import TableShape, shape_of


def unapplied(alias: str) -> list[tuple[str, str]]:
    """Migrations of this code that the database has not had: (app, name)."""
    loader = MigrationLoader(connections[alias])
    applied = set(loader.applied_migrations)
    return [node for node in loader.graph.nodes if node not in applied and node[0] in loader.migrated_apps]


def unknown_migrations(alias: str) -> list[tuple[str, str]]:
    """Migrations that the database has had and this code does not know: it was migrated by a newer version. Only of apps that we have."""
    loader = MigrationLoader(connections[alias])
    known = set(loader.disk_migrations or {})
    return sorted(node for node in loader.applied_migrations if node[0] in loader.migrated_apps and node not in known)


def former_shapes(alias: str) -> list[TableShape] | None:
    """The shapes of the tables as the applied migrations left them; None when the database is as the code has it.

    A model that the code has no longer is taken along: the migrations that are to come may want its rows.
    """
    if not unapplied(alias):
        return None
    loader = MigrationLoader(connections[alias])
    nodes = [node for node in loader.applied_migrations if node in loader.graph.nodes]
    state = loader.project_state(nodes)
    shapes = []
    for model in state.apps.get_models(include_auto_created=True):
        if not model._meta.managed or model._meta.proxy:
            continue
        scope = scope_of(model._meta.label)
        if scope is None:
            shapes.append(shape_of(model, "kept", "settings"))
        elif scope.policy in ("kept", "added", "lookup"):
            shapes.append(shape_of(model, scope.policy, scope.kind))
    return shapes
