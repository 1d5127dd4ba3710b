"""The whole way from nothing to a running local homeserver, for ``up``."""

from __future__ import annotations

from collections.abc import Callable

from controlplane.homeserver import configure, install, paths, process
from controlplane.homeserver.errors import HomeserverError
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
        raise HomeserverError(
            f"Port {local.port} on 127.0.0.1, the local homeserver's, is taken by another program. Stop that program, "
            f"or remove {paths.folder() / 'local.json'} to have another port chosen (Matrix clients then need the new address)."
        )
    configure.write(local)
    keeper = Keeper(local, python, say)
    keeper.start()
    return keeper
