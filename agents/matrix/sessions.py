"""Accounts that speak with sessions of their own: what the client asks of whoever keeps their tokens.

Under an appservice no account needs one. In client mode every account does, and under an appservice each that lies outside its
namespace. The keeper is ``agents.services.sessions``; here are only the questions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from agents.matrix.errors import MatrixError


class Sessions(Protocol):
    """The keeper of the accounts' tokens on one homeserver. Thread-safe. ``client_mode``: there is no appservice to fall back on."""

    client_mode: bool

    def token_of(self, user_id: str) -> str | None:
        """The account's own token; ``None``: the appservice speaks for it.

        Raises :class:`~agents.matrix.errors.SessionRefused` (or another :class:`MatrixError`) when it needs a session and has none.
        """

    def refused(self, user_id: str, token: str, error: MatrixError) -> str | None:
        """The homeserver refused this token: another one to repeat the request with, once. Raises ``SessionRefused`` when there is none."""

    def device_of(self, user_id: str) -> str:
        """The device that the account's session belongs to, "" when it has none."""

    def ensure(self, localpart: str) -> bool | None:
        """Make or adopt the account with a session of its own. ``True``: made now; ``None``: registering it is the appservice's matter."""

    def speaks_for(self, user_id: str) -> bool:
        """Whether it is an account of ours that has, or needs, a session of its own."""

    def warm(self, user_ids: Iterable[str]) -> None:
        """Read the tokens of many accounts at once, before they are used in threads that do not touch the database."""

    def keep(self, user_id: str, token: str, device_id: str) -> None:
        """From now on this is the account's token."""

    def forget(self, user_id: str) -> None:
        """The account has no token now."""


class BeforeSend(Protocol):
    """Turns an event into what is sent in its place: in an encrypted room into an encrypted one."""

    def __call__(
        self, *, room_id: str, user_id: str, event_type: str, content: dict[str, Any], txn_id: str
    ) -> tuple[str, dict[str, Any]]:
        """``(event type, content)``; the same as given where there is nothing to do. Raises ``MatrixError``."""
