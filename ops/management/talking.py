"""What commands need that talk with whoever started them."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand
from rich.console import Console


class TalkingCommand(BaseCommand):
    """``console`` is made by ``handle``. Answers go to standard out, questions and progress to standard error."""

    console: Console

    def json_out(self, document: Any) -> None:
        """One JSON document on standard out."""
        self.stdout.write(json.dumps(document, ensure_ascii=False, indent=2, default=str))

    def ask(self, prompt: str) -> str:
        """A secret that is typed, unseen; without a terminal a line of standard in."""
        return getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline().strip()

    def agreed(self, question: str) -> bool:
        """Whether somebody said yes; nobody there is a no."""
        if not sys.stdin.isatty():
            return False
        self.stderr.write(f"{question} [y/N] ", ending="")
        self.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def progress(self) -> Callable[[int, int, str], None]:
        """A line that moves, where there is a terminal."""
        if not sys.stderr.isatty():
            return lambda done, total, text: None

        def say(done: int, total: int, text: str) -> None:
            share = f"{done / total:4.0%}" if total else f"{done:,}"
            self.stderr.write(f"\r\x1b[K{share} {text}"[:120], ending="\r" if total and done >= total else "")

        return say


def read_secret(path: str) -> str:
    """A secret from a file; lines that begin with # are comments, as age-keygen writes them."""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    return "\n".join(line for line in text.splitlines() if line.strip() and not line.startswith("#")).strip()
