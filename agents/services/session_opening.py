"""The ladder to a session: from the token at hand to an account that is made again, one rung after the other, as far as is needed.

Writes no row; ``agents.services.sessions`` keeps what came of it. No rung is tried while the homeserver wants us to wait
(``M_LIMIT_EXCEEDED``): logins are counted by address, so one that is refused stops those of all accounts.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import httpx

from agents.matrix.errors import Exclusive, MatrixError, RateLimited, Refused, SessionRefused, Taken
from agents.matrix.session_calls import Opened, SessionCalls
from agents.models import Account
from ops.logs import add_secret
from ops.models import Service

if TYPE_CHECKING:
    from agents.services.backends import Homeserver

Rung = Literal["token", "password", "registered", "made by an administrator", "administrator's login", "password reset"]
# The homeserver says so in these codes: no password opens such an account.
_CLOSED = frozenset({"M_USER_DEACTIVATED", "M_USER_LOCKED", "M_USER_SUSPENDED"})
_wait_until: dict[int, float] = {}


class AccountClosed(SessionRefused):
    """The account is locked or deactivated: somebody has to open it again on the homeserver."""


@dataclass(frozen=True, slots=True)
class Climbed:
    """The session, the rung that gave it, and the password that opens it ("" when none is known)."""

    opened: Opened
    rung: Rung
    password: str = ""
    created: bool = False

    def __repr__(self) -> str:
        return f"<Climbed {self.opened.user_id} by {self.rung}>"


def device_of(account: Account, homeserver: Homeserver) -> str:
    """The account's fixed device: the same in every login, so that repeats are recognised and no heap of devices grows."""
    return str((account.secrets or {}).get("device_id") or homeserver.client.device_id)


def new_password() -> str:
    """A password that nobody has to type. Logs hide it."""
    password = secrets.token_urlsafe(32)
    add_secret(password)
    return password


class Ladder:
    """One climb for one account. ``refused`` is the token that does not work any more."""

    def __init__(self, homeserver: Homeserver, account: Account, *, refused: str = "") -> None:
        self.homeserver, self.account, self.refused = homeserver, account, refused
        self.calls = SessionCalls(homeserver.service.base_url)
        self.device = device_of(account, homeserver)
        self.reasons: list[str] = []
        self.is_operator = account.user_id == homeserver.sender_id

    def climb(self, *, register_first: bool) -> Climbed:
        """The first rung that holds. ``register_first``: the account is probably not there yet.

        Raises ``SessionRefused`` with the reasons of all rungs, ``AccountClosed``, ``RateLimited`` or ``HomeserverUnreachable``.
        """
        rungs: list[Callable[[], Climbed | None]] = [self._token, self._password]
        others = [self._login_as, self._reset]
        rungs += [self._register, *others] if register_first else [*others, self._register]
        try:
            for rung in rungs:
                if (found := rung()) is not None:
                    add_secret(found.opened.token)
                    return found
        finally:
            self.calls.close()
        why = " ".join(dict.fromkeys(self.reasons)) or "There is no password, and no way to make or reset one."
        raise SessionRefused(f"{self.account.user_id} has no session on the homeserver. {why}", action="open a session")

    def given(self) -> Climbed | None:
        """Only what is at hand: the token, or one login with the password. Raises as ``climb`` does; ``None``: see ``reasons``."""
        found = self._token() or self._password()
        if found is not None:
            add_secret(found.opened.token)
        return found

    def with_device(self) -> Climbed | None:
        """A session with a device in place of an administrator's login, which has none; ``None``: there is no way to one.

        Raises as ``climb`` does.
        """
        try:
            return self._password() or self._reset()
        finally:
            self.calls.close()

    # Rungs

    def _token(self) -> Climbed | None:
        """The stored token, or the one that an operator gave, if it was not the one refused."""
        given = [(self.account.secrets or {}).get("access_token")]
        if self.is_operator:
            given.append((self.homeserver.service.credentials or {}).get("access_token"))
        for token in given:
            if not token or token == self.refused:
                continue
            try:
                user_id, device = self.calls.whoami(str(token))
            except Refused as error:
                self._note(error, "The token at hand is refused")
                continue
            if user_id != self.account.user_id:
                self.reasons.append(f"The token at hand belongs to {user_id}.")
                continue
            return Climbed(Opened(user_id, str(token), device), "token", self._known_password())
        return None

    def _known_password(self) -> str:
        stored = str((self.account.secrets or {}).get("password") or "")
        given = (self.homeserver.service.credentials or {}).get("password") if self.is_operator else ""
        return stored or str(given or "")

    def _password(self) -> Climbed | None:
        found = [str((self.account.secrets or {}).get("password") or "")]
        if self.is_operator:
            found.append(str((self.homeserver.service.credentials or {}).get("password") or ""))
        for password in dict.fromkeys(filter(None, found)):
            try:
                return Climbed(self._login(password), "password", password)
            except Refused as error:
                self._note(error, "Its password is refused")
        return None

    def _login(self, password: str) -> Opened:
        """Log in, unless the homeserver wants us to wait. Whose session it is is looked at."""
        pk = self.homeserver.service.pk
        self._may_login()
        try:
            opened = self.calls.login(self.account.user_id, password, self.device)
        except RateLimited as error:
            _wait_until[pk] = time.monotonic() + (error.retry_after or 10.0)
            raise
        if opened.user_id != self.account.user_id:
            raise Refused(f"the homeserver logged us in as {opened.user_id}", action="open a session")
        return opened

    def _may_login(self) -> None:
        """Raises ``RateLimited`` while the homeserver wants us to wait."""
        wait = _wait_until.get(self.homeserver.service.pk, 0.0) - time.monotonic()
        if wait > 0:
            raise RateLimited(
                "the homeserver wants us to wait with logins", errcode="M_LIMIT_EXCEEDED", status=429, retry_after=wait,
                where=self.homeserver.service.base_url, action=f"log {self.account.user_id} in",
            )  # fmt: skip

    def _set_password(self, password: str) -> None:
        """Note what counts now, so that it is kept even if the login that follows has to wait."""
        self.account.secrets = {**(self.account.secrets or {}), "password": password}

    def _login_as(self) -> Climbed | None:
        """An administrator opens a session for it. Such a session has no device."""

        def login() -> Climbed:
            from agents.services import homeserver_admin

            token = homeserver_admin.login_as(homeserver=self.homeserver, user_id=self.account.user_id, actor="system")
            return Climbed(Opened(self.account.user_id, token), "administrator's login", self._known_password())

        return self._administered(login)

    def _reset(self) -> Climbed | None:
        """An administrator gives it a new password, and we log in with that."""

        def reset() -> Climbed:
            from agents.services import homeserver_admin

            self._may_login()
            password = new_password()
            # Nobody else's session is ended: what speaks with this account meanwhile, goes on.
            homeserver_admin.password_reset(
                homeserver=self.homeserver,
                user_id=self.account.user_id,
                password=password,
                logout_devices=False,
                actor="system",
            )
            self._set_password(password)
            return Climbed(self._login(password), "password reset", password)

        return self._administered(reset)

    def _register(self) -> Climbed | None:
        """Make the account: with the shared secret, a registration token, openly, or as an administrator."""
        if self.account.user_id.partition(":")[2] != self.homeserver.server_name:
            self.reasons.append(f"It is an account of another homeserver than {self.homeserver.server_name}.")
            return None
        given: dict[str, Any] = self.homeserver.service.credentials or {}
        localpart, password = self.account.user_id[1:].partition(":")[0], new_password()
        ways: list[Callable[[], Opened]] = []
        if given.get("registration_shared_secret"):
            secret = str(given["registration_shared_secret"])
            ways.append(lambda: self.calls.register_by_secret(secret, localpart, password, self.device))
        token = str(given.get("registration_token") or "")
        ways.append(lambda: self.calls.register(localpart, password, self.device, token=token))
        for way in ways:
            try:
                return Climbed(way(), "registered", password, created=True)
            except Taken:
                self.reasons.append("The account is there already, and nothing that we have opens it.")
                return None
            except Exclusive as error:
                self.reasons.append(f"An appservice's registration reserves its name: {error.message}.")
                return None
            except Refused as error:
                self._note(error, "It cannot be registered")

        def make() -> Climbed:
            from agents.services import homeserver_admin

            if homeserver_admin.ways(self.homeserver)["user_create"].dialect not in ("admin_api", "admin_room"):
                # Everything else was tried just now.
                raise homeserver_admin.CannotAdminister("There is no administrator who could make it.")
            homeserver_admin.user_create(
                homeserver=self.homeserver, localpart=localpart, password=password, actor="system"
            )
            self._set_password(password)
            return Climbed(self._login(password), "made by an administrator", password, created=True)

        return self._administered(make)

    def _administered(self, way: Callable[[], Climbed]) -> Climbed | None:
        from agents.services.homeserver_admin import CannotAdminister

        try:
            return way()
        except CannotAdminister as error:
            self.reasons.append(error.sentence)
        except Refused as error:
            self._note(error, "An administrator could not help")
        return None

    def _note(self, error: MatrixError, words: str) -> None:
        """Why a rung did not hold. A closed account ends the climb."""
        if error.errcode in _CLOSED:
            raise AccountClosed(
                f"{self.account.user_id} is locked or deactivated on the homeserver ({error.errcode}). An administrator has to open it again.",
                errcode=error.errcode, status=error.status, action="open a session",
            ) from error  # fmt: skip
        self.reasons.append(f"{words} ({error.code}): {error.message.rstrip('.')}.")


def ask_server_name(service: Service) -> str:
    """The part of Matrix ids behind the colon, where no appservice's token tells it.

    Raises ``MatrixError`` when the homeserver does not say: then MATRIX_SERVER_NAME has to be set.
    """
    try:
        name = httpx.get(f"{service.base_url}/_matrix/key/v2/server", timeout=5).json().get("server_name")
    except (httpx.HTTPError, ValueError, AttributeError):
        name = None
    if isinstance(name, str) and name:
        return name
    token = (service.credentials or {}).get("access_token")
    if token:
        calls = SessionCalls(service.base_url)
        try:
            return calls.whoami(str(token))[0].partition(":")[2]
        finally:
            calls.close()
    raise SessionRefused(
        "The homeserver does not say what it is called (the part of Matrix ids behind the colon). Set MATRIX_SERVER_NAME.",
        where=service.base_url, action="ask for its name",
    )  # fmt: skip
