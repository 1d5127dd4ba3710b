"""The homeserver, the accounts on it, and the space: checks, repairs, guides and faults. Importing this registers them.

``look`` asks an address, ``reach``/``login``/``flavour`` judge the server, ``accounts``/``senders``/``invites`` those who speak there,
``spaces`` the list of rooms. What writes is in ``agents.services`` (``identities``, ``invitations``, ``spaces``).
"""

from __future__ import annotations

from agents.doctor.matrix import (  # noqa: F401
    account_repairs,
    accounts,
    faults_rooms,
    faults_server,
    flavour,
    guides,
    invites,
    login,
    reach,
    senders,
    space_repairs,
    spaces,
)
from ops.doctor.targets import register_target

register_target("agent", "agents.Agent")
register_target("account", "agents.Account")
register_target("room", "agents.Room")
register_target("service", "ops.Service")
