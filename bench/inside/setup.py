"""Starts Django for a script, and answers its caller."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import django

from bench.measure import answer


def start(main: Callable[..., Any]) -> None:
    """Call ``main`` with the arguments that ``run_inside`` was given."""
    django.setup()
    answer(main(**json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}))
