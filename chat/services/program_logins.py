"""Sign-ins of programs: a family of refresh tokens that rotate, ended as one.

A refresh token is ``swr_<sign-in>.<secret>.<tag>``. Only SHA-256 of it is stored. The next one of a family follows from the present
one and the installation's secret key, so that a program whose answer was lost may ask again within the grace and is given the
same. The tag shows that a token which is not the present one was once ours: its use means that somebody else has a copy.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac

from chat import live
from chat.access.programs import forget_login
from chat.access.signing import access_token, lifetime
from chat.models import Person, ProgramLogin
from chat.services.signing_keys import signing_key
from ops.logs import get_logger
from ops.services.audit import record

log = get_logger(__name__)

# A lost answer is asked for again within moments.
GRACE = timedelta(seconds=30)
_FORM = re.compile(r"swr_(?P<login>[0-9a-f]{32})\.(?P<secret>[A-Za-z0-9_-]{43})\.(?P<tag>[0-9a-f]{16})\Z")


class RefreshRefused(Exception):
    """The refresh token does not count. ``code``: ``unknown``, ``ended``, ``reused``; the program is told no more than to sign in."""

    def __init__(self, code: str, login: ProgramLogin | None = None) -> None:
        super().__init__("Sign in again.")
        self.code = code
        self.login = login


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a program gets. ``expires_in`` is in seconds."""

    access: str
    refresh: str
    expires_in: int
    login: ProgramLogin


def login_open(*, person: Person, address: str | None = None, user_agent: str = "", actor: str) -> Tokens:
    """A new sign-in of a program that has proven who it is."""
    login = ProgramLogin(
        person=person,
        epoch=person.access_epoch,
        address=address or None,
        user_agent=user_agent[:255],
        last_used_at=timezone.now(),
        expires_at=timezone.now() + timedelta(days=settings.REFRESH_TOKEN_DAYS),
    )
    refresh = _token(login.pk, secrets.token_urlsafe(32))
    login.digest = _digest(refresh)
    with transaction.atomic():
        login.save(force_insert=True)
        record(actor=actor, action="program.signed_in", target=login)
    return _tokens(login, refresh)


def login_refresh(*, refresh_token: str) -> Tokens:
    """New tokens for a refresh token. Raises ``RefreshRefused``; the use of one that was replaced before the grace ends the family."""
    form = _FORM.match(refresh_token)
    if form is None:
        raise RefreshRefused("unknown")
    login = ProgramLogin.objects.select_related("person").filter(pk=UUID(form["login"])).first()
    if login is None:
        raise RefreshRefused("unknown")
    digest, now = _digest(refresh_token), timezone.now()
    fresh = _next(login.pk, form["secret"])
    if not login.is_usable(now):
        raise RefreshRefused("ended", login)
    # One conditional statement: of several that come with the same token one rotates, the others are within the grace.
    rotated = ProgramLogin.objects.filter(pk=login.pk, digest=digest, revoked_at=None).update(
        digest=_digest(fresh),
        previous_digest=digest,
        rotated_at=now,
        last_used_at=now,
        expires_at=now + timedelta(days=settings.REFRESH_TOKEN_DAYS),
    )
    login = ProgramLogin.objects.select_related("person").get(pk=login.pk)
    if not rotated and not _within_grace(login, digest, fresh):
        if login.revoked_at is None and _was_ours(form):
            login_end(login=login, reason="An old refresh token was used.", actor="system")
            log.warning("program.refresh_reused", login=str(login.pk))
            raise RefreshRefused("reused", login)
        raise RefreshRefused("unknown", login)
    if not login.is_usable():
        raise RefreshRefused("ended", login)
    return _tokens(login, fresh)


def login_end(*, login: ProgramLogin, reason: str, actor: str) -> bool:
    """End a sign-in with all its tokens and what they opened. False: it had ended before."""
    with transaction.atomic():
        ended = ProgramLogin.objects.filter(pk=login.pk, revoked_at=None).update(
            revoked_at=timezone.now(), revoked_reason=reason[:100]
        )
        if ended:
            record(actor=actor, action="program.signed_out", target=login, message=reason)
            transaction.on_commit(partial(_announce_end, login.pk, login.person_id))
    return bool(ended)


def _announce_end(login_id: UUID, person_id: int) -> None:
    forget_login(login_id)
    tell = getattr(live, "publish_person", None)
    if tell is not None:
        tell(person_id, {"type": "access"})


def _tokens(login: ProgramLogin, refresh: str) -> Tokens:
    access = access_token(key=signing_key(), person_id=login.person_id, login_id=login.pk, epoch=login.epoch)
    return Tokens(access, refresh, int(lifetime().total_seconds()), login)


def _within_grace(login: ProgramLogin, digest: str, fresh: str) -> bool:
    return (
        hmac.compare_digest(login.previous_digest, digest)
        and login.rotated_at is not None
        and timezone.now() - login.rotated_at <= GRACE
        and hmac.compare_digest(login.digest, _digest(fresh))
    )


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _token(login_id: UUID, secret: str) -> str:
    return f"swr_{login_id.hex}.{secret}.{_tag(login_id.hex, secret, settings.SECRET_KEY)}"


def _next(login_id: UUID, secret: str) -> str:
    derived = salted_hmac("chat.ProgramLogin.next", f"{login_id.hex}.{secret}", algorithm="sha256").digest()
    return _token(login_id, base64.urlsafe_b64encode(derived).decode("ascii").rstrip("="))


def _tag(login: str, secret: str, key: str | bytes) -> str:
    return salted_hmac("chat.ProgramLogin.tag", f"{login}.{secret}", secret=key, algorithm="sha256").hexdigest()[:16]


def _was_ours(form: re.Match[str]) -> bool:
    keys = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    return any(hmac.compare_digest(_tag(form["login"], form["secret"], key), form["tag"]) for key in keys)
