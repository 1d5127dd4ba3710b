"""Second factors: the secrets in allauth's rows are encrypted with our keys, and rotated with all others."""

from __future__ import annotations

from typing import Any

from allauth.mfa.models import Authenticator
from cryptography.fernet import InvalidToken
from django.db import transaction

from chat.models import Person
from ops.secret_rotation import RotationCount, register_rotation, reseal
from ops.secrets import MARK
from ops.services.audit import record


def has_second_factor(person: Person) -> bool:
    """Whether a code is asked of them when they sign in."""
    return Authenticator.objects.filter(user=person, type=Authenticator.Type.TOTP).exists()


def second_factor_remove(*, person: Person, actor: str) -> bool:
    """Take a person's second factor away, for somebody who lost it with all recovery codes. False: they have none."""
    with transaction.atomic():
        removed, _by_model = Authenticator.objects.filter(user=person).delete()
        if removed:
            record(actor=actor, action="person.second_factor_removed", target=person)
    return bool(removed)


def _rotate(dry_run: bool) -> RotationCount:
    rotated = current = 0
    broken: list[str] = []
    for pk in Authenticator.objects.values_list("pk", flat=True):
        with transaction.atomic():
            row = Authenticator.objects.select_for_update().filter(pk=pk).first()
            if row is None:
                continue
            try:
                fresh, changed = _resealed(row.data)
            except InvalidToken:
                broken.append(str(pk))
                continue
            rotated, current = rotated + changed, current + (not changed)
            if changed and not dry_run:
                row.data = fresh
                row.save(update_fields=["data"])
    return RotationCount("mfa.Authenticator.data", rotated, current, 0, len(broken), tuple(broken))


def _resealed(value: Any) -> tuple[Any, bool]:
    """(the value with every sealed text in it written with the newest key, whether any was not)."""
    if isinstance(value, dict):
        pairs = {name: _resealed(inner) for name, inner in value.items()}
        return {name: inner for name, (inner, _) in pairs.items()}, any(changed for _, changed in pairs.values())
    if isinstance(value, list):
        items = [_resealed(inner) for inner in value]
        return [inner for inner, _ in items], any(changed for _, changed in items)
    if isinstance(value, str) and value.startswith(MARK):
        fresh = reseal(value)
        return (value, False) if fresh is None else (fresh, True)
    return value, False


register_rotation(_rotate)
