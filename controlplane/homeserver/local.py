"""The whole way from nothing to a running local homeserver, for ``up``."""

from __future__ import annotations

from collections.abc import Callable

from controlplane.homeserver import configure, install, process
from controlplane.homeserver.keeper import Keeper


def start_local(say: Callable[[str, str], None], progress: Callable[[str], None] = lambda text: None) -> Keeper:
    """Install what is missing, configure, and start; returns at once with the keeper, whose ``wait_ready`` tells the rest.

    Raises ``HomeserverError``.
    """
    python = install.ensure_installed(progress)
    local = configure.choose()
    stale = process.stop_stale(local)
    if stale is not None:
        say("attention", f"A homeserver that an earlier start left behind (process {stale}) was stopped.")
    if not configure.port_is_free(local.port):
        if local.settled:
            raise configure.port_taken(local)
        local = configure.choose_again(local)
    configure.write(local)
    keeper = Keeper(local, python, say)
    keeper.start()
    return keeper
