"""Makes, checks and revokes bearer tokens."""

from __future__ import annotations

import hmac
import re
import secrets
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac

from ops.models import ApiToken, TokenScope
from ops.services import audit

_FORM = re.compile(r"swb_(?P<prefix>[a-z0-9]{12})\.(?P<secret>[A-Za-z0-9_-]{32,64})\Z")
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


def token_create(
    *, owner: Any, name: str, scope: str = TokenScope.READ, expires_at: datetime | None = None, actor: str
) -> tuple[ApiToken, str]:
    """Make a token for a person; returns the row and the token itself, which nobody can see again.

    Raises ``ValidationError`` for an unknown scope, an empty name or an expiry in the past.
    """
    if scope not in TokenScope.values:
        raise ValidationError({"scope": f"The scope is one of {', '.join(TokenScope.values)}."})
    if not name.strip():
        raise ValidationError({"name": "A token needs a name that says what it is for."})
    if expires_at is not None and expires_at <= timezone.now():
        raise ValidationError({"expires_at": "The expiry lies in the past."})
    prefix = "".join(secrets.choice(_ALPHABET) for _ in range(12))
    plaintext = f"swb_{prefix}.{secrets.token_urlsafe(32)}"
    with transaction.atomic():
        token = ApiToken.objects.create(
            owner=owner,
            name=name.strip()[:100],
            prefix=prefix,
            digest=_digest(plaintext, settings.SECRET_KEY),
            scope=scope,
            expires_at=expires_at,
        )
        audit.record(
            actor=actor,
            action="token.created",
            target=token,
            message=f"For {owner.get_username()}.",
            after={"scope": str(scope), "expires_at": expires_at},
        )
    return token, plaintext


def token_authenticate(plaintext: str) -> ApiToken | None:
    """The token's row with its owner, or None: unknown, wrong, revoked, expired, or its owner is inactive.

    Takes the same time whether or not the prefix is known. ``last_used_at`` is written at most once a minute.
    """
    match = _FORM.match(plaintext or "")
    if match is None:
        return None
    token = ApiToken.objects.select_related("owner").filter(prefix=match["prefix"]).first()
    stored = token.digest if token is not None else "0" * 64
    fits = False
    for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        fits |= hmac.compare_digest(_digest(plaintext, key), stored)
    now = timezone.now()
    if token is None or not fits or not token.is_usable(now) or not token.owner.is_active:
        return None
    minute_ago = now - timedelta(minutes=1)
    if token.last_used_at is None or token.last_used_at < minute_ago:
        # Conditional, so that of many requests at once only one writes.
        ApiToken.objects.filter(
            models.Q(last_used_at=None) | models.Q(last_used_at__lt=minute_ago), pk=token.pk
        ).update(last_used_at=now)
        token.last_used_at = now
    return token


def token_revoke(*, token: ApiToken, actor: str) -> None:
    """End a token; it counts at its next use. Revoking it again changes nothing."""
    with transaction.atomic():
        if ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now()):
            audit.record(actor=actor, action="token.revoked", target=token)
    token.refresh_from_db(fields=["revoked_at"])


def _digest(plaintext: str, key: str | bytes) -> str:
    """HMAC-SHA256 with a key derived from the secret key for this one use: a stolen database holds no usable token."""
    return salted_hmac("ops.ApiToken", plaintext, secret=key, algorithm="sha256").hexdigest()
