"""Times as ISO 8601 text, made by the database: a long list need not make objects of them only to print them again."""

from __future__ import annotations

from typing import Any

from django.db.models import Func, TextField


class IsoTime(Func):
    """``IsoTime("created_at")`` is ``2026-01-02T03:04:05.678901Z``, or ``None``. Times are stored in UTC."""

    function = "TO_CHAR"
    arity = 1
    output_field = TextField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="REPLACE(%(expressions)s, ' ', 'T') || 'Z'", **context)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "TO_CHAR(%(expressions)s AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
        return self.as_sql(compiler, connection, template=template, **context)
