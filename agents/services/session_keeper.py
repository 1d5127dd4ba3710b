"""Keeps the tokens of accounts with sessions of their own at hand, in memory, for every call to a homeserver.

The rows are the truth. A token that another process has renewed is found when ours is refused, so tokens are read once; which
accounts have sessions at all is looked up again now and then (``freshen``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from agents.matrix.errors import MatrixError, Refused
from agents.models import Account, AccountSession, AccountWay
from ops.models import Service

if TYPE_CHECKING:
    from agents.services.backends import Homeserver

FRESH_SECONDS = 30.0
PORTION = 500


class AccountSessions:
    """The keeper of one homeserver's sessions; see :class:`agents.matrix.sessions.Sessions`.

    Under an appservice it speaks for the accounts outside of the namespace that have a session; in client mode for all.
    """

    def __init__(self, service: Service, *, client_mode: bool, sender_id: str, prefix: str) -> None:
        self.client_mode = client_mode
        self._service_id = service.pk
        self._sender_id = sender_id
        self._prefix = prefix
        self._server = sender_id.partition(":")[2]
        self._outside: dict[str, bool] = {}
        self._tokens: dict[str, tuple[str, str]] = {}
        self._fresh_until = 0.0
        self._lock = threading.Lock()

    # Questions of the client

    def token_of(self, user_id: str) -> str | None:
        """The account's own token, ``None`` where the appservice speaks for it."""
        if not self._own(user_id):
            return None
        known = self._tokens.get(user_id)
        if known is None:
            self.warm([user_id])
            known = self._tokens.get(user_id)
        return known[0] if known is not None else self._renewed(user_id, "")

    def refused(self, user_id: str, token: str, error: MatrixError) -> str | None:
        """Another token to repeat the request with: one that somebody else has renewed, or one that is opened now."""
        with self._lock:
            known = self._tokens.get(user_id)
            if known is not None and known[0] != token:
                return known[0]
            self._tokens.pop(user_id, None)
        return self._renewed(user_id, token)

    def device_of(self, user_id: str) -> str:
        """The device of the account's session, "" when there is none."""
        if user_id not in self._tokens:
            self.warm([user_id])
        return self._tokens.get(user_id, ("", ""))[1]

    def ensure(self, localpart: str) -> bool | None:
        """Make or adopt the account with a session; ``None``: that is the appservice's matter."""
        from agents.services.sessions import account_ensure

        user_id = f"@{localpart}:{self._server}"
        if not self._own(user_id):
            return None
        return account_ensure(self._homeserver(), self._account(user_id))

    def speaks_for(self, user_id: str) -> bool:
        """Whether it is an account of ours that the prefix of our names does not tell."""
        return user_id in self._outside

    def warm(self, user_ids: Iterable[str]) -> None:
        """Read the tokens that are not at hand, a few queries for however many."""
        wanted = [one for one in dict.fromkeys(user_ids) if one not in self._tokens and self._own(one)]
        for start in range(0, len(wanted), PORTION):
            # One that was refused is no token: whether it may be tried again is the ladder's matter.
            rows = (
                Account.objects.filter(homeserver_id=self._service_id, user_id__in=wanted[start : start + PORTION])
                .exclude(session__in=[AccountSession.REFUSED, AccountSession.LOCKED])
                .only("user_id", "secrets")
            )
            for row in rows:
                if (secrets := row.secrets or {}).get("access_token"):
                    self.keep(row.user_id, str(secrets["access_token"]), str(secrets.get("device_id") or ""))

    # What those say who open and close sessions

    def keep(self, user_id: str, token: str, device_id: str) -> None:
        """From now on this is the account's token."""
        if len(self._tokens) > 50_000:
            self._tokens.clear()
        self._tokens[user_id] = (token, device_id)
        if not self._inside(user_id):
            self._outside[user_id] = True

    def forget(self, user_id: str) -> None:
        """The account has no token now; the next call reads its row."""
        self._tokens.pop(user_id, None)
        self._fresh_until = 0.0

    def freshen(self) -> None:
        """Look up now and then which accounts have sessions. Called where the database may be asked."""
        now = time.monotonic()
        if now < self._fresh_until:
            return
        self._fresh_until = now + FRESH_SECONDS
        rows = Account.objects.filter(homeserver_id=self._service_id).exclude(localpart__startswith=self._prefix)
        self._outside = {user_id: way == AccountWay.SESSION for user_id, way in rows.values_list("user_id", "way")}

    # Inside

    def _own(self, user_id: str) -> bool:
        """Whether the account speaks with a session of its own."""
        if self.client_mode or self._inside(user_id):
            return self.client_mode
        return self._outside.get(user_id, False) or self._opened_meanwhile(user_id)

    def _opened_meanwhile(self, user_id: str) -> bool:
        """An account outside of the namespace that had no session when we last looked up: another process may have opened one.

        Asked each time: without a session nobody can speak as it, and what it had to say would be given up.
        """
        accounts = Account.objects.filter(homeserver_id=self._service_id, user_id=user_id, way=AccountWay.SESSION)
        if not accounts.exists():
            return False
        self._outside[user_id] = True
        return True

    def _inside(self, user_id: str) -> bool:
        """Whether the appservice's namespace covers it."""
        localpart, _, server = user_id[1:].partition(":")
        return user_id == self._sender_id or (server == self._server and localpart.startswith(self._prefix))

    def _account(self, user_id: str) -> Account:
        from agents.services.sessions import operator_account

        if user_id == self._sender_id:
            return operator_account(self._homeserver())
        row = Account.objects.filter(homeserver_id=self._service_id, user_id=user_id).first()
        if row is None:
            raise Refused(
                f"{user_id} is no account of ours, so there is no session to speak with", action="speak as it"
            )
        return row

    def _homeserver(self) -> Homeserver:
        from agents.services.backends import homeserver_of

        return homeserver_of(Service.objects.get(pk=self._service_id))

    def _renewed(self, user_id: str, token: str) -> str:
        from agents.services.sessions import session_recover

        account = session_recover(homeserver=self._homeserver(), account=self._account(user_id), refused=token)
        secrets = account.secrets or {}
        self.keep(user_id, str(secrets["access_token"]), str(secrets.get("device_id") or ""))
        return str(secrets["access_token"])


_keepers: dict[tuple[object, ...], AccountSessions] = {}
_lock = threading.Lock()


def keeper_of(service: Service, *, client_mode: bool, sender_id: str, prefix: str) -> AccountSessions:
    """The keeper for a homeserver in this process."""
    key = (service.pk, service.created_at, service.base_url, client_mode, sender_id, prefix)
    with _lock:
        known = _keepers.get(key)
        if known is None:
            for old in [one for one in _keepers if one[0] == service.pk]:
                del _keepers[old]
            known = _keepers[key] = AccountSessions(
                service, client_mode=client_mode, sender_id=sender_id, prefix=prefix
            )
    known.freshen()
    return known
