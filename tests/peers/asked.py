"""Questions to an installation, answered by one process that lives as long as its asker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .base import PROJECT_ROOT

# One process answers all questions: each would have to load Django otherwise. It keeps no connection between two of them, since
# tests kill and remove databases.
_ANSWER = """
import json, sys, traceback
import django
django.setup()
from django.db import connections
known = {}
exec(sys.argv[1], known)
for line in sys.stdin:
    known['result'] = None
    try:
        exec(json.loads(line), known)
        answer = {'result': known['result']}
    except Exception:
        answer = {'error': traceback.format_exc()}
    connections.close_all()
    print('@@' + json.dumps(answer, default=str), flush=True)
"""


class Asked:
    """Answers with the settings in ``environment``. ``prelude`` is Python that runs once, before the first question."""

    def __init__(self, environment: Mapping[str, str], folder: Path, prelude: str = "") -> None:
        self._log = folder / "asked.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _ANSWER, prelude], cwd=PROJECT_ROOT, env={**os.environ, **environment}, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip

    def close(self) -> None:
        """End the process; it is gone when the asker is gone as well, since nobody writes to it then."""
        self._process.kill()
        self._process.communicate(timeout=90)

    def ask(self, code: str) -> Any:
        """Run Python inside of Django with the installation's settings; the code puts JSON-able data into ``result``."""
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

    def wait(self, code: str, true: Callable[[Any], bool], seconds: float = 120.0) -> Any:
        """Ask for ``code`` again and again, until ``true``."""
        until = time.monotonic() + seconds
        while True:
            found = self.ask(code)
            if true(found):
                return found
            assert time.monotonic() < until, f"It did not come true: {found}"
            time.sleep(0.5)
