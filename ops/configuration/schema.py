"""The settings as they were handed over: what there is, what runs, and what the next start would read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

# Where the variable of a setting stands.
ENVIRONMENT, FILE, SECRET_FILE, GENERATED, DEFAULT = "environment", "file", "secret file", "generated", "default"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. ``kind`` is text, bool, int, float, list, url or path; ``generated``: a key is made when nobody sets one."""

    name: str
    help: str = ""
    kind: str = "text"
    default: Any = ""
    aliases: tuple[str, ...] = ()
    secret: bool = False
    generated: bool = False
    group: str = "General"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something wrong with a setting. ``name`` is the variable, ``near`` the known name that an unknown one resembles."""

    code: str
    level: Literal["error", "warning", "info"]
    sentence: str
    hint: str = ""
    name: str = ""
    near: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """All settings as they were read once. ``sources`` names each one's variable, ``places`` says where that stands."""

    values: Mapping[str, Any] = field(repr=False)
    sources: Mapping[str, str]
    places: Mapping[str, str]
    troubles: tuple[Trouble, ...] = ()

    def setting_of(self, variable: str) -> str:
        """The setting that was read from this variable, or the variable itself."""
        return next((name for name, source in self.sources.items() if source == variable), variable)


@dataclass(frozen=True, slots=True)
class Configuration:
    """What was handed over.

    ``running`` is what this process started with, ``read`` what a process that starts now would find. ``parse(name, text)``
    raises ``ValueError`` with a reason. ``env_file`` is the file beside the code that is read when the environment says nothing.
    ``service_settings`` maps ``service.field`` (``letta.credentials.token``) to the setting that fills it.
    """

    settings: tuple[Setting, ...]
    running: Callable[[], Reading]
    read: Callable[[], Reading]
    parse: Callable[[str, str], Any]
    env_file: Callable[[], Path]
    service_settings: Mapping[str, str]

    def get(self, name: str) -> Setting | None:
        """The setting of this name or with this alias, or None."""
        return next((known for known in self.settings if name == known.name or name in known.aliases), None)


_configuration: Configuration | None = None


def register(configuration: Configuration) -> None:
    """Hand the settings over; the last one counts."""
    global _configuration
    _configuration = configuration


def configuration() -> Configuration:
    """What was handed over. Raises ``RuntimeError`` when nobody did."""
    if _configuration is None:
        raise RuntimeError("No app has handed its settings over.")
    return _configuration
