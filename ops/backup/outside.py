"""The rows that a restore does not write and that refer to rows it does: they follow what was renumbered, and go with what is gone."""

from __future__ import annotations

from collections import Counter

from django.apps import apps
from django.db import connections, models

from ops.backup.references import Reference, references
from ops.backup.scopes import scope_of
from ops.backup.staging import Staging


def follow(staging: Staging, alias: str, chosen: set[str]) -> None:
    """Have rows outside of the restored tables refer to the new numbers of what they refer to; what has none is let go.

    To be called before rows are removed and inserted. References are looked at in the end, when the transaction is.
    """
    for label in [row[0] for row in staging.sql.execute("SELECT DISTINCT label FROM _moved")]:
        moved = staging.sql.execute("SELECT old, new FROM _moved WHERE label = ?", (label,)).fetchall()
        _as_table(alias, moved)
        for one in references():
            if one.to == label and not _is_written(one.label, chosen):
                _follow_one(alias, one)


def _is_written(label: str, chosen: set[str]) -> bool:
    scope = scope_of(label)
    return label in chosen and scope is not None and scope.policy == "kept"


def _as_table(alias: str, moved: list[tuple[int, int | None]]) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE IF NOT EXISTS restore_moved (old BIGINT PRIMARY KEY, new BIGINT)")
        cursor.execute("DELETE FROM restore_moved")
        cursor.executemany("INSERT INTO restore_moved VALUES (%s, %s)", moved)


def _follow_one(alias: str, one: Reference) -> None:
    connection = connections[alias]
    quote = connection.ops.quote_name
    table, column = quote(one.model._meta.db_table), quote(one.column)
    if one.null:
        statements = [
            f"UPDATE {table} SET {column} = NULL WHERE {column} IN (SELECT old FROM restore_moved WHERE new IS NULL)"
        ]
    else:
        statements = [f"DELETE FROM {table} WHERE {column} IN (SELECT old FROM restore_moved WHERE new IS NULL)"]
    target = f"(SELECT new FROM restore_moved WHERE old = {column})"
    rest = f"{column} IN (SELECT old FROM restore_moved WHERE new IS NOT NULL)"
    # Databases look at each row's uniqueness at once: numbers that nobody has come in between.
    statements += [
        f"UPDATE {table} SET {column} = -{target} WHERE {rest}",
        f"UPDATE {table} SET {column} = -{column} WHERE {column} < 0",
    ]
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def sweep(alias: str, chosen: set[str]) -> Counter[str]:
    """Remove what refers to rows that are gone, as deleting them by hand would: emptied where the model says so, else with its row.

    Returns counts by model. To be called after rows are in.
    """
    connection = connections[alias]
    quote = connection.ops.quote_name
    gone: Counter[str] = Counter()
    lost = set(chosen)
    while lost:
        lost, before = set(), lost
        for one in references():
            if one.to not in before or _is_written(one.label, chosen):
                continue
            to = apps.get_model(one.to)._meta
            assert to.pk is not None
            table, column = quote(one.model._meta.db_table), quote(one.column)
            nowhere = (
                f"{column} IS NOT NULL AND NOT EXISTS (SELECT 1 FROM {quote(to.db_table)} referred "
                f"WHERE referred.{quote(str(to.pk.column))} = {table}.{column})"
            )
            keeps = one.null and one.on_delete is not models.CASCADE
            statement = f"UPDATE {table} SET {column} = NULL WHERE " if keeps else f"DELETE FROM {table} WHERE "
            with connection.cursor() as cursor:
                cursor.execute(statement + nowhere)
                changed = cursor.rowcount
            if changed:
                gone[one.label] += changed
                if not keeps:
                    lost.add(one.label)
    return gone
