"""Changes one line of the settings file and leaves every other as it is, comments included."""

from __future__ import annotations

import os
import re
import secrets
import stat
from pathlib import Path

_LINE = re.compile(r"^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=")
_PLAIN = re.compile(r"[A-Za-z0-9_@%+:,./\-]*\Z")


def line_of(path: Path, name: str) -> tuple[int, str]:
    """(number from 1, line) of the last line that sets ``name``; (0, "") when none does. Raises ``OSError``."""
    found = (0, "")
    for number, line in enumerate(_lines(path), start=1):
        match = _LINE.match(line)
        if match and match.group(1) == name:
            found = (number, line)
    return found


def as_line(name: str, value: str) -> str:
    """``NAME=value`` as the file writes it, quoted when it must be. Raises ``ValueError`` for a value with a line break."""
    if "\n" in value or "\r" in value or "\0" in value:
        raise ValueError("A value in the settings file is one line.")
    if _PLAIN.match(value):
        return f"{name}={value}"
    # In single quotes nothing means anything; in double quotes a backslash escapes.
    if "'" not in value:
        return f"{name}='{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name}="{escaped}"'


def write(path: Path, name: str, value: str | None, *, new_name: str = "") -> None:
    """Set ``name`` (None removes its lines; ``new_name`` renames it); the last line that sets it is the one that changes.

    The file is replaced at once or not at all, keeps its mode, and is made for the owner only when it is new. Raises ``OSError``
    and ``ValueError``.
    """
    lines = _lines(path)
    at = [number for number, line in enumerate(lines) if (match := _LINE.match(line)) and match.group(1) == name]
    if value is None:
        for number in reversed(at):
            del lines[number]
    elif at:
        lines[at[-1]] = as_line(new_name or name, value)
    else:
        lines.append(as_line(new_name or name, value))
    replace(path, "".join(f"{line}\n" for line in lines))


def replace(path: Path, text: str | None) -> None:
    """Make the file say exactly this; None removes it. Raises ``OSError``."""
    if text is None:
        path.unlink(missing_ok=True)
        return
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        mode = 0o600
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path) -> str | None:
    """The whole text, None when there is no file. Raises ``OSError``."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _lines(path: Path) -> list[str]:
    return (read(path) or "").splitlines()


def value_of(line: str) -> str:
    """The value that a line of the file sets, without its quotes."""
    text = line.partition("=")[2].strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        inner = text[1:-1]
        return inner if text[0] == "'" else inner.replace('\\"', '"').replace("\\\\", "\\")
    return text
