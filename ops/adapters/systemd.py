"""systemd: units of ours as in ``deploy/systemd``, and those that an operator named for an outside service."""

from __future__ import annotations

import shutil
import subprocess

from ops.adapters.base import AdapterError, Part, Verb, unit_of
from ops.redaction import redact_text

DEFAULTS = {"web": "switchboard-web", "worker": "switchboard-worker@1", "beat": "switchboard-beat", "up": "switchboard"}
_SECONDS = 30.0


class Systemd:
    """``systemctl``, without asking for a password: what the user may do is a matter of polkit."""

    name = "systemd"
    supervises = True

    def why_not(self, part: Part) -> str:
        try:
            unit = unit_of(part, "unit", DEFAULTS)
        except AdapterError as error:
            return str(error)
        if not unit:
            return (
                f"No unit is known for {part.label}. Name it in PROCESS_UNITS, or as the option 'unit' of the service."
            )
        if shutil.which("systemctl") is None:
            return f"There is no systemctl here. On the host of {part.label}, run: {self.command(part, 'restart')}"
        return ""

    def command(self, part: Part, verb: Verb) -> str:
        return f"sudo systemctl {verb} {unit_of(part, 'unit', DEFAULTS) or 'UNIT'}"

    def start(self, part: Part) -> None:
        self._run("start", part)

    def restart(self, part: Part) -> None:
        self._run("restart", part)

    def _run(self, verb: Verb, part: Part) -> None:
        unit = unit_of(part, "unit", DEFAULTS)
        try:
            done = subprocess.run(
                ["systemctl", "--no-ask-password", verb, unit],
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise AdapterError(f"systemctl {verb} {unit} took longer than {_SECONDS:g} s.") from None
        except OSError as error:
            raise AdapterError(f"systemctl cannot be run here ({error.strerror}).") from error
        if done.returncode != 0:
            said = redact_text(" ".join((done.stderr or done.stdout).split())[:300]).rstrip(".")
            raise AdapterError(
                f"systemctl {verb} {unit} failed: {said or f'code {done.returncode}'}. By hand: {self.command(part, verb)}"
            )
