"""What commands print: lamps in their colours, tables as wide as the terminal, plain text elsewhere."""

from __future__ import annotations

import sys
from typing import IO, cast

from django.core.management.base import OutputWrapper
from rich.console import Console
from rich.text import Text

from ops.choices import Lamp

LAMP_COLOURS = {
    Lamp.GOOD: "green",
    Lamp.WORKING: "blue",
    Lamp.ATTENTION: "yellow",
    Lamp.TROUBLE: "red",
    Lamp.OFF: "bright_black",
}
# Where there is no terminal to ask, a line may be this long.
PLAIN_WIDTH = 120


def lamp_text(lamp: Lamp, word: str = "") -> Text:
    """Shape and word in the lamp's colour."""
    return Text(f"{lamp.shape} {word or lamp.label.lower()}", style=LAMP_COLOURS[lamp])


def console_of(output: OutputWrapper, *, plain_width: int = PLAIN_WIDTH) -> Console:
    """A console over a command's standard output; colour and width follow the terminal, if it is one."""
    width = None if sys.stdout.isatty() else plain_width
    return Console(file=cast(IO[str], output), width=width, highlight=False, emoji=False)
