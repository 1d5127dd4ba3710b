"""What is different in client mode, in words: for the homeserver's page, the doctor, and commands that make no sense there."""

from __future__ import annotations

from ops.models import Service

# What an appservice alone can do.
CLIENT_MODE_CANNOT = {
    "push": "The homeserver does not send us events: we ask for them (/sync), which takes a moment longer.",
    "ping": "Nobody calls us, so there is nothing to ping.",
    "queries": "Nobody asks us for accounts and rooms that are not there yet: a lazy room is made when a person opens it in the portal, "
    "or when the API asks for it.",
    "time": "Messages carry the time at which they are sent; what is brought in from elsewhere cannot keep its own.",
    "namespace": "Names of agents' accounts are not reserved: anybody may take one first.",
    "rate_limits": "The homeserver's limits for ordinary accounts apply to agents.",
    "invitations": "An agent follows an invitation to a chat of its own when its account is looked at next (within a minute for up to "
    "120 accounts), or at once where Switchboard's own account is invited along.",
}


def no_appservice(service: Service) -> str:
    """Why a check or command about the registration has nothing to do here; "" under an appservice."""
    from agents.services.backends import mode_of

    if mode_of(service) != "client":
        return ""
    return (
        f"{service.name} is used in client mode (MATRIX_MODE=client): there is no registration, no appservice token and no call from "
        "the homeserver. Accounts speak with sessions of their own."
    )
