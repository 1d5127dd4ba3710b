"""A homeserver, seen by an appservice (or by accounts with sessions of their own): one synchronous, thread-safe client for every call that Switchboard makes.

The calls are grouped by what they deal with (accounts, rooms, spaces, events, keys) in the ``calls_*`` modules; this is their sum.
"""

from __future__ import annotations

from agents.matrix.calls_keys import KeyCalls
from agents.matrix.results import MessagesPage, PingResult, Profile


class AppserviceClient(KeyCalls):
    """``AppserviceClient(base_url, as_token, server_name, sender_localpart="switchboard")``.

    Keep one for each homeserver (:func:`agents.matrix.clients.get_client`): it holds the connections. Every call takes the
    ``user_id`` to act as (identity assertion, or the account's own token: see :mod:`agents.matrix.sessions`), ``None`` for
    Switchboard's own account, and raises only :class:`~agents.matrix.errors.MatrixError`.
    """


__all__ = ["AppserviceClient", "MessagesPage", "PingResult", "Profile"]
