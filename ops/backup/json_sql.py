"""SQL that has the database write rows as lines of JSON, byte for byte as orjson writes them."""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper

from ops.backup import codecs
from ops.backup.shapes import Column, TableShape

# Before a line of PostgreSQL whose JSON values are not canonical yet.
MARK = b"!"
_PLAIN = "('{}', '[]')"


def page(connection: BaseDatabaseWrapper, shape: TableShape) -> str:
    """The statement for one page: (greatest key, number of rows, lines) of the rows with keys in (%s, %s], at most %s of them.

    That an aggregate takes the rows in the order of the subquery is what both databases do; a test compares with the other way.
    """
    quote = connection.ops.quote_name
    line = _postgresql(connection, shape) if connection.vendor == "postgresql" else _sqlite(connection, shape)
    pk, table = quote(shape.pk), quote(shape.table)
    joined = (
        "string_agg(line, E'\\n')"
        if connection.vendor == "postgresql"
        else "CAST(group_concat(line, char(10)) AS BLOB)"
    )
    mark = "%s" if connection.vendor == "postgresql" else "?"
    return (
        f"SELECT MAX(pk), COUNT(*), {joined} FROM (SELECT {pk} AS pk, {line} AS line FROM {table} "
        f"WHERE {pk} > {mark} AND {pk} <= {mark} ORDER BY {pk} LIMIT {mark}) AS page"
    )


def read(connection: BaseDatabaseWrapper, statement: str, after: int, end: int, limit: int) -> tuple[int, int, bytes]:
    """Run ``page``'s statement: (greatest key, number of rows, lines without the last one's end). May be called in any thread."""
    with connection.wrap_database_errors:
        key, number, lines = connection.connection.execute(statement, (after, end, limit)).fetchone()
    return key or after, number, lines.encode() if isinstance(lines, str) else lines or b""


def _sqlite(connection: BaseDatabaseWrapper, shape: TableShape) -> str:
    values = [_sqlite_value(column, connection.ops.quote_name(column.name)) for column in shape.columns]
    return f"json_array({', '.join(values)})"


def _sqlite_value(column: Column, quoted: str) -> str:
    match column.type:
        case "bool":
            return f"json(CASE {quoted} WHEN 0 THEN 'false' WHEN 1 THEN 'true' END)"
        case "json":
            return f"CASE WHEN {quoted} IN {_PLAIN} THEN {quoted} ELSE canonical_json({quoted}) END"
    return codecs.select_expression("sqlite", column, quoted)


def _postgresql(connection: BaseDatabaseWrapper, shape: TableShape) -> str:
    quote = connection.ops.quote_name
    values = []
    for column in shape.columns:
        value = _postgresql_value(column, quote(column.name))
        values.append(f"coalesce({value}, 'null')" if column.null else value)
    unusual = [
        f"({quote(column.name)} IS NOT NULL AND {quote(column.name)}::text NOT IN {_PLAIN})"
        for column in shape.columns
        if column.type == "json"
    ]
    mark = f"CASE WHEN {' OR '.join(unusual)} THEN '{MARK.decode()}' ELSE '' END || " if unusual else ""
    return f"{mark}'[' || {' || $,$ || '.join(values)} || ']'".replace("$", "'")


def _postgresql_value(column: Column, quoted: str) -> str:
    match column.type:
        case "int":
            return f"{quoted}::text"
        case "bool":
            return f"CASE WHEN {quoted} THEN 'true' WHEN NOT {quoted} THEN 'false' END"
        case "text" | "secret":
            return f"to_json({quoted}::text)::text"
        case "json":
            return f"to_json({quoted}::text)::text"
    return f"""'"' || {codecs.select_expression("postgresql", column, quoted)} || '"'"""
