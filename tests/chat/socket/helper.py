"""A process with an installation's settings that runs Python for a test: one start, many questions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[3]

_LOOP = """
import json, sys
from ops.processes import reporter
reporter.enabled = False
import django
django.setup()
from django.db import close_old_connections
from django.test import Client as Browser
from django.utils import timezone
from datetime import timedelta
from agents.models import *
from chat.models import *
from chat.access.identity import *
from chat.access.tickets import *
from chat.services import portal, branches, messages
from ops.models import *
for line in sys.stdin:
    names = {**globals(), "result": None, **json.loads(line)["values"]}
    close_old_connections()
    try:
        exec(json.loads(line)["code"], names)
        answer = {"result": names["result"]}
    except BaseException as error:
        import traceback
        answer = {"error": traceback.format_exc()}
    close_old_connections()
    print("@@" + json.dumps(answer, default=str), flush=True)
"""


class Helper:
    """``ask(code, **values)`` runs code, which puts JSON-able data into ``result``."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LOOP], cwd=PROJECT, env={**os.environ, **environment},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def ask(self, code: str, **values: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"code": code, "values": values}) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("@@"):
                answer = json.loads(line[2:])
                assert "error" not in answer, answer["error"]
                return answer["result"]
        raise AssertionError("the helper ended")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
