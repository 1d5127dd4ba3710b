"""Levels of loggers that an operator changes while everything runs; each falls back by itself.

Held in one live setting: ``{logger: {"level": "debug", "until": ISO time or null}}``. The thread of each process's logbook applies what
counts now and restores what was there before.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from django.utils import timezone

from ops.live import live, register_live
from ops.logbook.rows import RANKS

KEY = "log.levels"
KEEP_KEY = "log.keep"
KEPT = ("debug", "info", "warning", "error", "off")
ROOT = "everything"
# What the picker offers; any other logger can be typed.
WELL_KNOWN = (
    ROOT,
    "chat",
    "chat.turns",
    "chat.deliveries",
    "chat.intake",
    "chat.matrix",
    "agents",
    "agents.sync",
    "agents.matrix",
    "agents.backends",
    "ops",
    "controlplane",
    "httpx",
    "celery",
)


def parse_levels(value: Any) -> dict[str, dict[str, Any]]:
    """Checked and in one shape. Raises ``ValueError`` with a sentence."""
    if not isinstance(value, dict):
        raise ValueError("Levels are an object: logger to {level, until}.")
    found: dict[str, dict[str, Any]] = {}
    for name, wanted in value.items():
        wanted = {"level": wanted} if isinstance(wanted, str) else wanted
        level = str(wanted.get("level", "")) if isinstance(wanted, dict) else ""
        if level not in RANKS:
            raise ValueError(f"A level is one of {', '.join(RANKS)}, not {level!r}.")
        until = wanted.get("until")
        if until is not None:
            moment = datetime.fromisoformat(str(until))
            if moment.tzinfo is None:
                raise ValueError("A time needs its zone.")
            until = moment.isoformat()
        found[str(name)[:150]] = {"level": level, "until": until}
    return found


def parse_keep(value: Any) -> str:
    """The least level that is kept as rows, or ``off``."""
    if value not in KEPT:
        raise ValueError(f"Choose one of {', '.join(KEPT)}.")
    return str(value)


register_live(
    KEY,
    label="Log levels",
    help="Levels of single loggers, changed while everything runs. Set them on the page of the logs: they fall back by themselves.",
    parse=parse_levels,
    default=dict,
)
register_live(
    KEEP_KEY,
    label="Log lines kept",
    help="The least level of the lines that are kept in the database for the page of the logs; off keeps none.",
    parse=parse_keep,
    default=lambda: "info",
)


def wanted_levels(now: datetime | None = None) -> dict[str, str]:
    """Loggers with a level of their own now."""
    now = now or timezone.now()
    return {
        name: one["level"]
        for name, one in live(KEY).items()
        if one["until"] is None or datetime.fromisoformat(one["until"]) > now
    }


class Levels:
    """The levels of this process: applies what is wanted, remembers what was before."""

    def __init__(self) -> None:
        self.applied: dict[str, str] = {}
        self._before: dict[str, int] = {}

    def apply(self, wanted: dict[str, str]) -> bool:
        """Returns whether anything changed."""
        if wanted == self.applied:
            return False
        for name in [name for name in self.applied if name not in wanted]:
            _logger(name).setLevel(self._before.pop(name, logging.NOTSET))
        for name, level in wanted.items():
            logger = _logger(name)
            self._before.setdefault(name, logger.level)
            logger.setLevel(level.upper())
        self.applied = dict(wanted)
        return True

    def covers(self, logger: str, rank: int) -> bool:
        """Whether an operator asked to see lines of this logger at this level."""
        for name, level in self.applied.items():
            if rank >= RANKS[level] and (name == ROOT or logger == name or logger.startswith(f"{name}.")):
                return True
        return False


def _logger(name: str) -> logging.Logger:
    return logging.getLogger() if name == ROOT else logging.getLogger(name)
