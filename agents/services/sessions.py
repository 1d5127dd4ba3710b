"""Sessions of accounts: opened once, kept, looked at now and then, renewed when the homeserver refuses them.

Never a login for a message: a token is used until it is refused. Then one process renews it (a lock by account), and what cannot be
renewed is tried again after growing pauses.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from agents.matrix.errors import HomeserverUnreachable, MatrixError, RateLimited, Refused, SessionRefused
from agents.matrix.session_calls import SessionCalls
from agents.models import Account, AccountSession, AccountWay, AgentState
from agents.services.backends import Homeserver, NoHomeserver, open_homeserver, user_prefix
from agents.services.session_opening import AccountClosed, Climbed, Ladder
from ops.locks import LockHeld, named_lock
from ops.logs import get_logger
from ops.models import Service
from ops.services.audit import record

log = get_logger(__name__)

LONGEST_PAUSE = timedelta(hours=1)
FOR_GOOD = timedelta(days=3650)
# Accounts that are looked at in a minute.
SLICE = 120
# What the staggered look does with one account besides asking whose the token is; the app above registers it.
Watcher = Callable[[Homeserver, Account], None]
_watchers: list[Watcher] = []
_makers: list[Watcher] = []
# The accounts whose sessions this thread is opening.
_busy = threading.local()


def register_watcher(watcher: Watcher) -> None:
    """Let the app above look at an account whose session was found good. It may raise ``MatrixError``."""
    if watcher not in _watchers:
        _watchers.append(watcher)


def register_maker(maker: Watcher) -> None:
    """Let the app above know of an account that the homeserver did not have and that was made (again)."""
    if maker not in _makers:
        _makers.append(maker)


def operator_account(homeserver: Homeserver) -> Account:
    """The row of Switchboard's own account, which in client mode has a session as agents' accounts have."""
    row, _ = Account.objects.get_or_create(
        user_id=homeserver.sender_id,
        defaults={
            "homeserver": homeserver.service,
            "localpart": homeserver.sender_localpart,
            "way": AccountWay.SESSION,
        },
    )
    return row


def session_open(
    *, homeserver: Homeserver, account: Account, password: str = "", token: str = "", actor: str
) -> Account:
    """Let the account speak with a session of its own: a token that is given, or one login with a password. ``whoami`` proves it.

    Raises ``SessionRefused`` with the reason, ``RateLimited``, or ``HomeserverUnreachable``. Nothing is kept then.
    """
    trial = Account(pk=account.pk, user_id=account.user_id, localpart=account.localpart)
    stored = account.secrets or {}
    trial.secrets = {key: value for key, value in stored.items() if key == "device_id"}
    trial.secrets |= {key: value for key, value in (("password", password), ("access_token", token)) if value}
    calls = SessionCalls(homeserver.service.base_url)
    ladder = Ladder(homeserver, trial)
    try:
        climbed = ladder.given()
        if climbed is None:
            why = " ".join(ladder.reasons) or "Neither a password nor a token was given."
            raise SessionRefused(f"{account.user_id} cannot be opened. {why}", action="open a session")
        if climbed.rung != "token":
            calls.whoami(climbed.opened.token)
    finally:
        calls.close()
        ladder.calls.close()
    return _keep(homeserver, account, climbed, actor)


def session_close(*, homeserver: Homeserver, account: Account, actor: str) -> Account:
    """End the account's session on the homeserver and forget token and password.

    In client mode it cannot speak afterwards, and is not opened by itself: somebody opens it (``session_open``, or ``force``).
    """
    token = (account.secrets or {}).get("access_token")
    if token:
        calls = SessionCalls(homeserver.service.base_url)
        try:
            calls.logout(str(token))
        finally:
            calls.close()
    with transaction.atomic():
        row = Account.objects.select_for_update().get(pk=account.pk)
        row.secrets = {}
        row.way, row.session = AccountWay.APPSERVICE, AccountSession.NONE
        row.session_error, row.session_checked_at, row.session_retry_at = "", None, None
        if homeserver.client_mode:
            row.session_error = f"The session of {row.user_id} was closed. Open it again at its account."
            row.session_retry_at = timezone.now() + FOR_GOOD
        row.save(update_fields=[*_FIELDS, "way"])
        record(actor=actor, action="session.closed", target=row, message=f"{row.user_id} speaks with no session now.")
    _forget(homeserver, row)
    return row


def account_ensure(homeserver: Homeserver, account: Account, *, actor: str = "system") -> bool:
    """What registering means for an account with a session: it is there afterwards, and we can speak as it. ``True``: made now.

    Raises as ``session_recover`` does.
    """
    if (account.secrets or {}).get("access_token") and account.session == AccountSession.GOOD:
        return False
    known = account.registered_at is not None
    return _renew(homeserver, account, "", actor, register_first=not known)[1]


def session_recover(
    *, homeserver: Homeserver, account: Account, refused: str = "", actor: str = "system", force: bool = False
) -> Account:
    """Open the account's session again, up the ladder: token, password, an administrator's login, a new password, made again.

    ``refused`` is the token that the homeserver did not take; ``force`` does not wait for the end of a pause. Raises
    ``SessionRefused`` (with the time of the next attempt), ``RateLimited`` or ``HomeserverUnreachable``.
    """
    return _renew(homeserver, account, refused, actor, register_first=False, force=force)[0]


def _renew(
    homeserver: Homeserver, account: Account, refused: str, actor: str, *, register_first: bool, force: bool = False
) -> tuple[Account, bool]:
    busy: set[int] = _busy.__dict__.setdefault("accounts", set())
    if account.pk in busy:
        # Opening it led here again: whoever looks after the homeserver needs this very session.
        raise SessionRefused(f"The session of {account.user_id} is being opened and cannot be used yet.", retry_after=5)
    busy.add(account.pk)
    had_connection = connection.connection is not None
    try:
        with named_lock(f"agents.session.{account.pk}", ttl=60, wait=20):
            row = Account.objects.get(pk=account.pk)
            token = (row.secrets or {}).get("access_token")
            if token and token != refused and row.session == AccountSession.GOOD:
                # Another process was faster.
                _remember(homeserver, row)
                return row, False
            if not force:
                _may_try(row, homeserver.service)
            try:
                climbed = Ladder(homeserver, row, refused=refused).climb(register_first=register_first)
            except MatrixError as error:
                raise _noted(row, error) from error
            return _keep(homeserver, row, climbed, actor), climbed.created
    except LockHeld as error:
        raise SessionRefused(
            f"The session of {account.user_id} is being renewed elsewhere.", retry_after=2, action="open a session"
        ) from error
    finally:
        busy.discard(account.pk)
        # The call that found the token refused may have come from a thread that has no use for a connection.
        if not had_connection and not connection.in_atomic_block:
            connection.close()


def _may_try(row: Account, service: Service) -> None:
    """Raises ``SessionRefused`` during a pause. What somebody entered with the homeserver since the last attempt ends it: it may help."""
    now = timezone.now()
    entered = (
        row.session == AccountSession.REFUSED
        and row.session_checked_at is not None
        and service.updated_at > row.session_checked_at
    )
    if row.session_retry_at is not None and row.session_retry_at > now and not entered:
        raise SessionRefused(
            row.session_error or f"{row.user_id} has no session.",
            retry_after=(row.session_retry_at - now).total_seconds(),
            action="open a session",
        )


_FIELDS = ["secrets", "session", "session_error", "session_checked_at", "session_retry_at"]


def _keep(homeserver: Homeserver, account: Account, climbed: Climbed, actor: str) -> Account:
    """Keep the session with its row, and at hand."""
    with transaction.atomic():
        row = Account.objects.select_for_update().get(pk=account.pk)
        before = row.session
        kept: dict[str, Any] = {
            "password": climbed.password,
            "access_token": climbed.opened.token,
            # The name of the device stays although a session without one came between.
            "device_id": climbed.opened.device_id or (row.secrets or {}).get("device_id", ""),
            "deviceless": not climbed.opened.device_id,
        }
        row.secrets = {key: value for key, value in kept.items() if value}
        row.way, row.session, row.session_error = AccountWay.SESSION, AccountSession.GOOD, ""
        row.session_checked_at, row.session_retry_at = timezone.now(), None
        row.registered_at = row.registered_at or timezone.now()
        if climbed.created:
            # It was made just now, and has neither name nor picture.
            row.display_name, row.avatar_source, row.avatar_mxc = "", "", ""
        row.save(update_fields=[*_FIELDS, "way", "registered_at", "display_name", "avatar_source", "avatar_mxc"])
        record(
            actor=actor,
            action="session.opened",
            target=row,
            message=f"{row.user_id} speaks with a session of its own (by: {climbed.rung}).",
            before={"session": before},
            after={"session": str(row.session)},
        )
    log.info("session.opened", user_id=row.user_id, by=climbed.rung)
    for name in _FIELDS:
        setattr(account, name, getattr(row, name))
    account.way, account.registered_at = row.way, row.registered_at
    _remember(homeserver, row)
    if climbed.created:
        for maker in _makers:
            maker(homeserver, row)
    return row


def _noted(row: Account, error: MatrixError) -> MatrixError:
    """Note on the row that it has no session, and when to try again; returns what to raise."""
    if isinstance(error, HomeserverUnreachable):
        # Says nothing about the account.
        return error
    now = timezone.now()
    if isinstance(error, RateLimited):
        pause = timedelta(seconds=error.retry_after or 30.0)
    else:
        failures = int((row.secrets or {}).get("failures", 0)) + 1
        row.secrets = {**(row.secrets or {}), "failures": failures}
        # 1, 2, 4 … minutes.
        pause = min(timedelta(minutes=2 ** min(failures - 1, 10)), LONGEST_PAUSE)
        row.session = AccountSession.LOCKED if isinstance(error, AccountClosed) else AccountSession.REFUSED
    row.session_error, row.session_retry_at, row.session_checked_at = error.sentence[:500], now + pause, now
    row.save(update_fields=_FIELDS)
    log.warning("session.refused", user_id=row.user_id, error=error.sentence[:300], again_in=pause.total_seconds())
    if isinstance(error, RateLimited):
        return error
    return SessionRefused(error.sentence, errcode=error.errcode, retry_after=pause.total_seconds(), action=error.action)


def _remember(homeserver: Homeserver, row: Account) -> None:
    sessions, kept = homeserver.client.sessions, row.secrets or {}
    if sessions is not None and kept.get("access_token"):
        sessions.keep(row.user_id, str(kept["access_token"]), str(kept.get("device_id") or ""))


def _forget(homeserver: Homeserver, row: Account) -> None:
    if homeserver.client.sessions is not None:
        homeserver.client.sessions.forget(row.user_id)


# The staggered look


@dataclass(slots=True)
class Checked:
    """What a round found: how many sessions work, were renewed, and do not work (user id and sentence)."""

    good: int = 0
    renewed: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    interrupted: str = ""


def sessions_wanted(homeserver: Homeserver) -> QuerySet[Account]:
    """The accounts that ought to have a session: in client mode all, else those that speak with one."""
    rows = Account.objects.filter(homeserver=homeserver.service).exclude(mapping__agent__state=AgentState.ARCHIVED)
    if not homeserver.client_mode:
        # The appservice speaks for those in its namespace, whatever sessions they had before.
        outside = rows.exclude(localpart__startswith=user_prefix(homeserver)).exclude(user_id=homeserver.sender_id)
        return outside.filter(way=AccountWay.SESSION)
    # Those that are not registered yet are sync's matter.
    return rows.filter(Q(way=AccountWay.SESSION) | Q(registered_at__isnull=False))


def sessions_check(*, limit: int = SLICE, seconds: float = 40.0, actor: str = "system") -> Checked:
    """Ask for a few accounts, the longest not asked first, whether their tokens still hold; renew those that do not.

    At most ``limit`` of them, and for about ``seconds``.
    """
    found = Checked()
    try:
        homeserver = open_homeserver()
    except NoHomeserver:
        return found
    except MatrixError as error:
        found.interrupted = error.sentence
        return found
    due = sessions_wanted(homeserver).filter(Q(session_retry_at__isnull=True) | Q(session_retry_at__lte=timezone.now()))
    rows = list(due.order_by(F("session_checked_at").asc(nulls_first=True), "pk")[:limit])
    good: list[int] = []
    until = time.monotonic() + seconds
    calls = SessionCalls(homeserver.service.base_url)
    for row in rows:
        if time.monotonic() > until:
            break
        token = str((row.secrets or {}).get("access_token") or "")
        try:
            if _holds(calls, row, token):
                found.good += 1
                good.append(row.pk)
            else:
                _forget(homeserver, row)
                row = session_recover(homeserver=homeserver, account=row, refused=token, actor=actor)
                found.renewed += 1
            if (row.secrets or {}).get("deviceless"):
                row = session_settle(homeserver, row, actor)
            for watcher in _watchers:
                watcher(homeserver, row)
        except (HomeserverUnreachable, RateLimited) as error:
            found.interrupted = error.sentence
            break
        except MatrixError as error:
            found.refused[row.user_id] = error.sentence
    calls.close()
    Account.objects.filter(pk__in=good).update(
        session=AccountSession.GOOD, session_error="", session_checked_at=timezone.now()
    )
    if found.refused:
        log.warning("sessions.refused", count=len(found.refused), first=next(iter(found.refused.values()))[:300])
    return found


def session_settle(homeserver: Homeserver, row: Account, actor: str) -> Account:
    """Give an account that an administrator logged in a session with a device: repeats are recognised by it, and keys hang on it.

    Where logins are limited, or there is no way, it goes on as it is.
    """
    former = str((row.secrets or {}).get("access_token") or "")
    try:
        climbed = Ladder(homeserver, row).with_device()
    except (RateLimited, SessionRefused) as error:
        # A new password may count already.
        row.save(update_fields=["secrets"])
        log.info("session.without_device", user_id=row.user_id, error=error.sentence[:200])
        return row
    if climbed is None:
        return row
    row = _keep(homeserver, row, climbed, actor)
    calls = SessionCalls(homeserver.service.base_url)
    try:
        calls.logout(former)
    except Refused as error:
        log.info("session.former_not_ended", user_id=row.user_id, error=error.sentence[:200])
    finally:
        calls.close()
    return row


def _holds(calls: SessionCalls, row: Account, token: str) -> bool:
    """Raises ``MatrixError`` when the homeserver does not say."""
    if not token:
        return False
    try:
        return calls.whoami(token)[0] == row.user_id
    except Refused:
        return False
