"""Whose account it is that speaks in a room: one of ours, an agent's, or somebody else's."""

from __future__ import annotations

from agents.models import Account
from ops.models import Service


def is_ours(sender: str, homeserver: Service) -> bool:
    """Whether Switchboard speaks as this account."""
    from agents.services.backends import homeserver_of, user_prefix

    opened = homeserver_of(homeserver)
    localpart, _, server = sender[1:].partition(":")
    sessions = opened.client.sessions
    if sender == opened.sender_id or (sessions is not None and sessions.speaks_for(sender)):
        return True
    if server != opened.server_name or not localpart.startswith(user_prefix(opened)):
        return False
    # Without an appservice nothing keeps others from taking such a name.
    return not opened.client_mode or Account.objects.filter(user_id=sender).exists()


def agent_id_of(sender: str, homeserver: Service) -> int | None:
    """The agent whose account it is."""
    if not is_ours(sender, homeserver):
        return None
    return Account.objects.filter(user_id=sender).values_list("mapping__agent_id", flat=True).first()
