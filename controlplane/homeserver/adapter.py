"""Restarts the local homeserver: it is ended, and ``up``, which keeps it, starts it again."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from controlplane.homeserver import process
from controlplane.homeserver.paths import known_local, read_text
from controlplane.up.lock import running
from ops.adapters import AdapterError, Part, register_adapter
from ops.adapters.base import Verb, role_part
from ops.adapters.none import Nobody


class Kept:
    """The Synapse that ``up`` started. Works from every process of this host."""

    name = "up"
    supervises = True

    def why_not(self, part: Part) -> str:
        if known_local() is None:
            return "This data directory has no local homeserver."
        if running() is None:
            return f"The local homeserver runs while Switchboard does. Start it with: {Nobody().command(role_part('up'), 'start')}"
        return ""

    def command(self, part: Part, verb: Verb) -> str:
        return Nobody().command(role_part("up"), verb)

    def start(self, part: Part) -> None:
        self.restart(part)

    def restart(self, part: Part) -> None:
        problem = self.why_not(part)
        local = known_local()
        if problem or local is None:
            raise AdapterError(problem or "This data directory has no local homeserver.")
        text = read_text(local.pid_file).strip()
        if not text.isdigit() or not process.is_ours(int(text), local):
            # Its keeper has noticed, and is about to start it.
            return
        pid = int(text)
        for number, seconds in ((signal.SIGTERM, process.STOP_SECONDS), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                if not process.is_ours(pid, local):
                    return
                time.sleep(0.05)
        raise AdapterError(f"The local homeserver (process {pid}) does not end, whatever is tried.")


register_adapter(Kept(), lambda part: part.service is not None and bool((part.service.options or {}).get("local")))
