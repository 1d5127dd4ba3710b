"""A whole installation as processes of its own, in which processes are killed and started again."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from tests.peers import asked
from tests.peers.base import ended
from tests.peers.switchboard import Stack

_PRELUDE = """
from ops.models import *
from ops.processes.queries import *
from ops.runner import run_checks
from ops.services.repairs import repair_plan, repair_start, repair_undo
from ops.doctor.repairs import RepairRefused
def mend(id, target='', **params):
    try:
        run = repair_start(repair_id=id, target=target, params=params, actor='proof', trigger='command')
    except RepairRefused as error:
        return {'state': 'refused', 'error': str(error)}
    return {'state': str(run.state), 'error': run.error, 'receipt': run.receipt, 'changes': run.changes}
def look(*ids):
    return {f'{run.check.id} {run.target}'.strip(): str(run.status) for run in run_checks(ids or None)}
def state(id):
    row = CheckState.objects.filter(check_id=id, target='').first()
    return str(row.status) if row else ''
def there(role):
    return [{'name': r.pk, 'pid': r.pid, 'ready': r.ready_after_seconds is not None} for r in alive((role,))]
"""


class Asked(asked.Asked):
    """Questions about processes and repairs."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        super().__init__(environment, folder, _PRELUDE)


class House(Asked):
    """A stack with a few questions to it."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack.environment, stack.folder)
        self.stack = stack

    def kill(self, role: str, number: int = signal.SIGKILL) -> list[int]:
        """Signal every process of a role."""
        pids = [row["pid"] for row in self.ask(f"result = there({role!r})")]
        for pid in pids:
            os.kill(pid, number)
        for part in self.stack.parts:
            # Ours would stay as zombies; those that a repair has started belong to nobody.
            if part.process is not None and part.process.pid in pids and number == signal.SIGKILL:
                part.process.wait(60)
        return pids

    def end(self) -> None:
        """End everything, also what repairs have started."""
        rows = self.ask("result = [r.pid for r in alive()]")
        self.close()
        self.stack.stop()
        for pid in rows:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + 90
        for pid in rows:
            if not ended(pid, until - time.monotonic()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
