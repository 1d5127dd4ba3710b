"""Personal tokens: with one of these a program talks to agents as its owner, and does nothing else."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet

from chat import live
from chat.models import Person
from ops.models import ApiToken, TokenScope
from ops.services.tokens import token_create, token_revoke

# Nobody keeps an overview of more.
MOST = 50


def personal_tokens(person: Person) -> QuerySet[ApiToken]:
    """A person's tokens that were not revoked, newest first."""
    return ApiToken.objects.filter(owner=person, scope=TokenScope.CHAT, revoked_at=None)


def personal_token_create(
    *, person: Person, name: str, expires_at: datetime | None = None, actor: str
) -> tuple[ApiToken, str]:
    """Make a token; returns its row and the token itself, which nobody can see again. Raises ``ValidationError``."""
    with transaction.atomic():
        # The person's row, so that two requests at once do not both make the last one.
        Person.objects.select_for_update().get(pk=person.pk)
        if personal_tokens(person).count() >= MOST:
            raise ValidationError({"name": f"There are {MOST} tokens already. Revoke one that is not used any more."})
        return token_create(owner=person, name=name, scope=TokenScope.CHAT, expires_at=expires_at, actor=actor)


def personal_token_revoke(*, person: Person, token_id: int, actor: str) -> ApiToken:
    """End a person's own token, and what it opened. Raises ``ApiToken.DoesNotExist`` for anybody else's."""
    token = ApiToken.objects.get(pk=token_id, owner=person, scope=TokenScope.CHAT)
    with transaction.atomic():
        token_revoke(token=token, actor=actor)
        transaction.on_commit(partial(_announce, person.pk))
    return token


def _announce(person_id: int) -> None:
    tell = getattr(live, "publish_person", None)
    if tell is not None:
        tell(person_id, {"type": "access"})
