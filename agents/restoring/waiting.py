"""A homeserver that ``manage.py up`` starts itself is mostly stopped when a backup is restored by command: that is no failure."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from agents.services.backends import homeserver_service
from ops.backup.hooks import NotYet

# Seconds. It is on this machine.
_PATIENCE = 2.0


def unless_started(then: str) -> None:
    """Raises ``NotYet`` while the local homeserver is not started; ``then`` says what is done when it is."""
    service = homeserver_service()
    if service is None or not service.options.get("local"):
        return
    where = urlsplit(service.base_url)
    try:
        socket.create_connection((where.hostname or "127.0.0.1", where.port or 80), _PATIENCE).close()
    except OSError as error:
        raise NotYet(f"The local homeserver is not started yet. The next manage.py up starts it; {then}") from error
