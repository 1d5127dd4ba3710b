"""The predecessor's later database: the same records as tables, in an SQLite file or on a PostgreSQL server. Only read, never written."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agents.importing.records import Raw, Reading
from agents.importing.registry import parts, understand
from ops.findings import Finding
from ops.words import counted

SQLITE_MAGIC = b"SQLite format 3\x00"
INVITATIONS = "invitation_status"
# Tables of the predecessor for which there is nothing here, and why that is no loss.
_NOT_NEEDED = {
    "portal_agent_links": "Rooms that are bridged from elsewhere: invite the agent into each of them; it follows.",
    "inter_agent_conversations": "Agents that talk to each other get a conversation of their own here.",
    "dead_letter_messages": "Messages that were never delivered; the agents were not told of them either.",
    "processed_events": "Events that were seen during the last hour.",
}
_SECONDS = 15


class DatabaseUnreadable(Exception):
    """The address is none, or the database cannot be read. The text says why, without the password."""


def read_sqlite(reading: Reading, data: bytes) -> None:
    """An SQLite database that was uploaded."""
    with tempfile.TemporaryDirectory(prefix="import-") as folder:
        place = Path(folder) / "database.sqlite3"
        place.write_bytes(data)
        place.chmod(0o600)
        _read_sqlite_file(reading, place, immutable=True)


def read_address(url: str) -> Reading:
    """``sqlite:///path``, a path, or ``postgresql://user:password@host/name``. Raises ``DatabaseUnreadable``."""
    parts_ = urlsplit(url)
    scheme = parts_.scheme.partition("+")[0]
    if scheme in {"postgresql", "postgres"}:
        reading = Reading(f"{parts_.hostname or 'localhost'}{parts_.path}"[:255])
        _read_postgresql(reading, f"postgresql{url[len(parts_.scheme) :]}")
        return reading
    if scheme not in {"", "sqlite", "file"}:
        raise DatabaseUnreadable(f"{scheme}:// is none of postgresql:// and sqlite:///.")
    path = Path(
        url.partition("://")[2].removeprefix("/") if url.startswith("sqlite:///") else url.removeprefix("file://")
    )
    if url.startswith("sqlite:////"):
        path = Path(url.removeprefix("sqlite:///"))
    if not path.is_file():
        raise DatabaseUnreadable(f"There is no file {path}.")
    reading = Reading(path.name[:255], size=path.stat().st_size)
    with path.open("rb") as file:
        if file.read(len(SQLITE_MAGIC)) != SQLITE_MAGIC:
            raise DatabaseUnreadable(f"{path.name} is no SQLite database.")
    _read_sqlite_file(reading, path, immutable=False)
    return reading


def _read_sqlite_file(reading: Reading, path: Path, *, immutable: bool) -> None:
    mode = "?mode=ro" + ("&immutable=1" if immutable else "")
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}{mode}", uri=True, timeout=_SECONDS)
    except sqlite3.Error as error:
        raise DatabaseUnreadable(f"{path.name} cannot be opened: {error}.") from None
    connection.row_factory = sqlite3.Row
    # Bytes that are no UTF-8 must not cost all the other rows.
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    try:
        names = {
            str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
        }

        def rows(table: str) -> Iterator[dict[str, Any]]:
            for row in connection.execute(f'SELECT * FROM "{table}"'):  # noqa: S608 (a name from our own list)
                yield dict(row)

        _read_tables(reading, names, rows)
    except sqlite3.Error as error:
        reading.findings.append(
            Finding("error", "import.database", f"{reading.name} cannot be read to its end: {error}.", reading.name)
        )
    finally:
        connection.close()


def _read_postgresql(reading: Reading, url: str) -> None:
    import psycopg
    from psycopg import sql
    from psycopg.rows import dict_row

    options = "-c default_transaction_read_only=on -c statement_timeout=60000"
    try:
        with psycopg.connect(url, connect_timeout=_SECONDS, options=options, row_factory=dict_row) as connection:
            found = connection.execute(
                "SELECT table_schema, table_name FROM information_schema.tables "
                "WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
            ).fetchall()
            schemas = {row["table_name"]: row["table_schema"] for row in found}

            def rows(table: str) -> Iterator[dict[str, Any]]:
                query = sql.SQL("SELECT * FROM {}").format(sql.Identifier(schemas[table], table))
                with connection.cursor(name="switchboard_import") as cursor:
                    yield from cursor.execute(query)

            _read_tables(reading, set(schemas), rows)
    except psycopg.Error as error:
        # The driver's words may repeat the address, and with it the password.
        words = " ".join(str(error).split())[:300] or type(error).__name__
        password = urlsplit(url).password
        raise DatabaseUnreadable(
            f"The database cannot be read: {words.replace(password, '…') if password else words}"
        ) from None


def _read_tables(reading: Reading, names: set[str], rows: Any) -> None:
    invited: dict[str, dict[str, str]] = {}
    if INVITATIONS in names:
        for row in rows(INVITATIONS):
            invited.setdefault(str(row.get("agent_id")), {})[str(row.get("invitee"))] = str(row.get("status"))
    known = {table: part.kind for part in parts() for table in part.tables}
    for table in sorted(known.keys() & names):
        for number, row in enumerate(rows(table), start=1):
            if known[table] == "mapping":
                row["invitation_status"] = invited.get(str(row.get("agent_id")))
            record = understand(Raw("", row, f"{reading.name}: {table}"[:255], number, hint=table))
            if record is not None:
                reading.records.append(record)
    for table in sorted(_NOT_NEEDED.keys() & names):
        count = sum(1 for _ in rows(table))
        if count:
            sentence = f"{table}: {counted(count, 'row is', 'rows are')} not taken. {_NOT_NEEDED[table]}"
            reading.findings.append(Finding("info", "import.not_taken", sentence, reading.name, {"rows": count}))
    reading.kind = "database"
    if not reading.records and not (_NOT_NEEDED.keys() & names):
        sentence = f"{reading.name} has none of the predecessor's tables ({', '.join(sorted(known))})."
        reading.findings.append(Finding("error", "import.no_tables", sentence, reading.name))
