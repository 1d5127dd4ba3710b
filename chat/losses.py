"""What this floor's secrets are called when their key is lost: keys that sign access tokens, second factors."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from allauth.mfa.models import Authenticator
from django.db import transaction

from chat.access.signing import forget_keys
from chat.models import Person, SigningKey
from ops.losses import register_loss
from ops.secrets import Sealed
from ops.services.audit import record


def _drop_keys(keys: Sequence[str]) -> list[dict[str, Any]]:
    """Whole rows: a key without content would sign with nothing, and everybody knows that."""
    rows = [
        {
            "kid": row.kid,
            "secret": row.__dict__["secret"].stored,
            "created_at": row.created_at.isoformat(),
            "retired_at": row.retired_at.isoformat() if row.retired_at else None,
        }
        for row in SigningKey.objects.filter(pk__in=keys)
    ]
    SigningKey.objects.filter(pk__in=keys).delete()
    transaction.on_commit(forget_keys)
    return rows


def _bring_keys(rows: Sequence[dict[str, Any]]) -> int:
    count = 0
    for row in rows:
        if SigningKey.objects.filter(kid=row["kid"]).exists():
            continue
        # One that was made meanwhile goes on signing; this one counts for what it signed.
        retired = datetime.fromisoformat(row["retired_at"]) if row["retired_at"] else None
        made = SigningKey(kid=row["kid"], retired_at=retired)
        sealed: Any = Sealed(row["secret"])
        made.secret = sealed
        made.save()
        SigningKey.objects.filter(pk=made.pk).update(created_at=datetime.fromisoformat(row["created_at"]))
        count += 1
    transaction.on_commit(forget_keys)
    return count


def _owners(keys: Sequence[str]) -> dict[str, str]:
    rows = Authenticator.objects.filter(pk__in=keys).select_related("user")
    return {str(row.pk): f"{row.user} ({row.get_type_display()})" for row in rows}


def _drop_factors(keys: Sequence[str]) -> list[dict[str, Any]]:
    rows = list(Authenticator.objects.filter(pk__in=keys).select_related("user"))
    for row in rows:
        record(
            actor="system",
            action="person.second_factor_removed",
            target=row.user,
            message="Its secret could not be opened.",
        )
    Authenticator.objects.filter(pk__in=keys).delete()
    return [{"user": row.user_id, "type": row.type, "data": row.data} for row in rows]


def _bring_factors(rows: Sequence[dict[str, Any]]) -> int:
    count = 0
    for row in rows:
        if not Person.objects.filter(pk=row["user"]).exists():
            continue  # whoever it belonged to was deleted meanwhile
        if not Authenticator.objects.filter(user_id=row["user"], type=row["type"]).exists():
            Authenticator.objects.create(user_id=row["user"], type=row["type"], data=row["data"])
            count += 1
    return count


register_loss(
    "chat.SigningKey.secret",
    what="keys that sign access tokens",
    advice="Programs fetch new tokens by themselves; nothing has to be entered.",
    clear=_drop_keys,
    put_back=_bring_keys,
)
register_loss(
    "mfa.Authenticator.data",
    what="second factors",
    advice="They sign in with their password alone; ask them to set up a second factor again.",
    names=_owners,
    clear=_drop_factors,
    put_back=_bring_factors,
)
