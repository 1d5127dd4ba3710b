"""What every restore does on the ground floor, whatever apps there are: numbers that nobody has seen, and no alarm about the restore itself."""

from __future__ import annotations

from datetime import timedelta

from django.db import connections

from ops.backup.hooks import Fence, register_fence
from ops.backup.scopes import backed_up
from ops.models import MaintenanceWindow

# Between the cut and the loss rows were made whose numbers clients, rooms and servers still hold. As many are passed over.
LEAP = 1_000_000
# So long nobody is told of troubles: homeserver, backends and we find together again meanwhile.
CALM = timedelta(minutes=10)
REASON = "A backup was restored: things find together again"


def leap(fence: Fence) -> None:
    """On an empty machine the next conversation, message, turn or delivery gets a number that none had before the loss.

    Browsers keep unsent words, and homeservers events, by numbers of ours; the same number again would be taken for the same thing.
    Elsewhere the database itself remembers how far it was.
    """
    if not fence.fresh:
        return
    connection = connections[fence.alias]
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        for model, scope in backed_up():
            pk = model._meta.pk
            if (
                scope.kind != "conversations"
                or pk is None
                or pk.get_internal_type() not in ("AutoField", "BigAutoField")
            ):
                continue
            table, column = model._meta.db_table, str(pk.column)
            cursor.execute(f"SELECT COALESCE(MAX({quote(column)}), 0) FROM {quote(table)}")
            beyond = int(cursor.fetchone()[0]) + LEAP
            if connection.vendor == "postgresql":
                cursor.execute("SELECT pg_get_serial_sequence(%s, %s)", [quote(table), column])
                cursor.execute("SELECT setval(%s, %s)", [cursor.fetchone()[0], beyond])
            else:
                cursor.execute("UPDATE sqlite_sequence SET seq = %s WHERE name = %s", [beyond, table])
                if not cursor.rowcount:
                    cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (%s, %s)", [table, beyond])


def calm(fence: Fence) -> None:
    """Operators are not told of what is out of step for a few minutes."""
    MaintenanceWindow.objects.using(fence.alias).create(
        starts_at=fence.now, ends_at=fence.now + CALM, reason=REASON, created_by="restore"
    )


register_fence("numbers", leap)
register_fence("alarms", calm)
