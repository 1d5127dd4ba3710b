"""Accounts that register or name themselves, where no administrator does it: with the session that they have for a moment."""

from __future__ import annotations

from agents.matrix.admin.login import set_own_name
from agents.matrix.errors import MatrixError, TokenRefused
from agents.matrix.session_calls import Opened, SessionCalls
from ops.logs import get_logger
from ops.models import Service

log = get_logger(__name__)
LOGIN_DEVICE = "SWITCHBOARD_LOGIN"


class TokenNotTaken(Exception):
    """The homeserver does not take the registration token."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


def register_as_anybody(service: Service, localpart: str, password: str, token: str, display_name: str) -> None:
    """Register with the registration token, or openly without; the session that comes with it names the account and ends.

    Raises ``TokenNotTaken``, ``MatrixError``.
    """
    calls = SessionCalls(service.base_url)
    try:
        _dress_and_leave(calls, calls.register(localpart, password, LOGIN_DEVICE, token=token), display_name)
    except TokenRefused as error:
        raise TokenNotTaken(
            f"The homeserver does not take the registration token: {error.message}. Enter another one (registration_token)."
        ) from error
    finally:
        calls.close()


def name_account(service: Service, user_id: str, password: str, display_name: str) -> None:
    """Where only the account itself can set its display name. One that fails is no reason to say that there is no account."""
    calls = SessionCalls(service.base_url)
    try:
        _dress_and_leave(calls, calls.login(user_id, password, LOGIN_DEVICE), display_name)
    except MatrixError as error:
        log.warning("homeserver.no_display_name", user=user_id, error=error.sentence)
    finally:
        calls.close()


def _dress_and_leave(calls: SessionCalls, opened: Opened, display_name: str) -> None:
    try:
        if display_name:
            set_own_name(calls.base_url, opened.token, opened.user_id, display_name)
        calls.logout(opened.token)
    except MatrixError as error:
        log.warning("homeserver.no_display_name", user=opened.user_id, error=error.sentence)
