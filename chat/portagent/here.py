"""What is known here of Portagent's rows, and whose names are taken: the reading side of a plan."""

from __future__ import annotations

from collections.abc import Sequence

from chat.models import ImportedRow, Person
from chat.portagent.rows import CONTAINER, SOURCE, SYSTEM, USER

_AT_ONCE = 400


class Database:
    """``chat.portagent.plan.Here`` over our database."""

    def known(self, kind: str, keys: Sequence[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for begin in range(0, len(keys), _AT_ONCE):
            rows = ImportedRow.objects.filter(
                system=SYSTEM, source=SOURCE, kind=kind, key__in=keys[begin : begin + _AT_ONCE]
            )
            found.update(rows.values_list("key", "digest"))
        return found

    def name_taken(self, name: str, *, exact: bool = False) -> bool:
        named = Person.objects.filter(username=name) if exact else Person.objects.filter(username__iexact=name)
        return named.exists()

    def match(self, name: str, email: str) -> tuple[int, str] | None:
        found = list(Person.objects.filter(username__iexact=name)[:2]) if name else []
        if not found and email:
            found = list(Person.objects.filter(email__iexact=email)[:2])
        return (found[0].pk, found[0].username) if len(found) == 1 else None

    def person_exists(self, user_key: str) -> bool:
        row = ImportedRow.objects.filter(system=SYSTEM, source=SOURCE, kind=USER, key=user_key).first()
        return row is not None and Person.objects.filter(pk=row.target_id).exists()

    def owner_of(self, container: str) -> int | None:
        rows = ImportedRow.objects.filter(system=SYSTEM, source=SOURCE, kind=CONTAINER, key=container[:255])
        target = rows.values_list("target_id", flat=True).first()
        return Person.objects.filter(pk=target).values_list("pk", flat=True).first() if target else None
