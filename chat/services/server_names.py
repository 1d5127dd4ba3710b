"""People's own Matrix accounts, when their homeserver gets another name or they move to another one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.db import transaction

from chat.models import Person
from ops.services.audit import record_each

_PORTION = 500


def people_on(servers: Iterable[str]) -> dict[str, list[int]]:
    """Who has an account on one of these servers: ``{user id: [person]}``."""
    ends = tuple(f":{server}" for server in servers)
    found: dict[str, list[int]] = {}
    if ends:
        rows = Person.objects.exclude(matrix_user_id="").values_list("matrix_user_id", "pk")
        for user_id, pk in rows.iterator():
            if user_id.endswith(ends):
                found.setdefault(user_id, []).append(pk)
    return found


def people_move(*, moves: Mapping[str, str], actor: str) -> int:
    """Give people another Matrix account: ``{old id: new id}``. Returns how many people. What they said stays under the id they said it with."""
    count = 0
    olds = list(moves)
    with transaction.atomic():
        for start in range(0, len(olds), _PORTION):
            part = list(Person.objects.select_for_update().filter(matrix_user_id__in=olds[start : start + _PORTION]))
            told = []
            for person in part:
                before, person.matrix_user_id = person.matrix_user_id, moves[person.matrix_user_id]
                told.append((person, f"{before} is {person.matrix_user_id} now."))
            Person.objects.bulk_update(part, ["matrix_user_id"], batch_size=_PORTION)
            record_each(actor=actor, action="person.matrix_moved", targets=told)
            count += len(part)
    return count
