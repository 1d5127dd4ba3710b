"""A whole installation as processes of its own, in which processes are killed and started again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.peers.switchboard import PROJECT, Stack

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

# One process answers all questions: each would have to load Django otherwise.
_ANSWER = """
import json, sys, traceback
import django
django.setup()
known = {}
exec(sys.argv[1], known)
for line in sys.stdin:
    known['result'] = None
    try:
        exec(json.loads(line), known)
        answer = {'result': known['result']}
    except Exception:
        answer = {'error': traceback.format_exc()}
    print('@@' + json.dumps(answer, default=str), flush=True)
"""


class Asked:
    """Questions to an installation, answered by one process with its settings."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self._log = folder / "asked.log"
        self._process = subprocess.Popen(
            [sys.executable, "-c", _ANSWER, _PRELUDE], cwd=PROJECT, env={**os.environ, **environment}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log.open("w"),
        )  # fmt: skip

    def close(self) -> None:
        self._process.kill()
        self._process.wait(5)

    def ask(self, code: str) -> Any:
        """Run Python inside of Django with the stack's settings; the code puts JSON-able data into ``result``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("@@"):
                answer = json.loads(line[2:])
                assert "error" not in answer, answer["error"]
                return answer["result"]
        raise AssertionError(f"The process that answers questions has ended:\n{self._log.read_text()[-2000:]}")

    def wait(self, code: str, true: Callable[[Any], bool], seconds: float = 60.0) -> Any:
        """Ask for ``code`` again and again, until ``true``."""
        until = time.monotonic() + seconds
        while True:
            found = self.ask(code)
            if true(found):
                return found
            assert time.monotonic() < until, f"It did not come true: {found}"
            time.sleep(0.5)


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
                part.process.wait(5)
        return pids

    def end(self) -> None:
        """End everything, also what repairs have started."""
        rows = self.ask("result = [r.pid for r in alive()]")
        self.close()
        self.stack.stop()
        for pid in rows:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + 10
        for pid in rows:
            while time.monotonic() < until and os.path.exists(f"/proc/{pid}"):
                time.sleep(0.05)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
