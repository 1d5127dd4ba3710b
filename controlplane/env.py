"""Reads settings from the environment: types, aliases, ``NAME_FILE``, generated keys, and a list of what is wrong.

A setting is described once, in ``controlplane.options``; this module only reads. A value that cannot be read never stops
the process here: it becomes a ``Problem``, the default is used, and ``manage.py check`` (which every start runs) reports it
with a stable id.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import environ

Kind = Literal["text", "bool", "int", "float", "list", "url", "path"]

PLACEHOLDER = re.compile(
    r"^(change[-_ ]?me.*|your[-_ ].*|<.*>|\.\.\.|…|xxx+|todo|replace[-_ ].*|sk-\.\.\.|placeholder.*|.*[-_]goes[-_]here|secret|password)$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Option:
    """One setting: its name, type, default and meaning.

    ``aliases`` are names that predecessors used. ``secret`` options also read ``NAME_FILE`` and are never shown.
    ``generate`` makes a value once, which is kept in the data directory (mode 0600). ``floor`` is the least allowed number.
    """

    name: str
    help: str
    kind: Kind = "text"
    default: Any = ""
    aliases: tuple[str, ...] = ()
    secret: bool = False
    generate: Callable[[], str] | None = None
    floor: float | None = None
    choices: tuple[str, ...] = ()
    group: str = "General"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a setting. ``code`` is the stable id of the system check that reports it.

    ``name`` is the variable that it is about, ``near`` the known name that an unknown one resembles.
    """

    code: str
    level: Literal["error", "warning", "info"]
    sentence: str
    hint: str = ""
    name: str = ""
    near: str = ""


@dataclass(slots=True)
class Environment:
    """The values of all options, where each came from, and the problems found while reading them.

    ``sources`` names the variable that an option was read from ("default", "generated" when none was); ``places`` says where
    that variable stands: environment, file (``.env``), secret file (``NAME_FILE``), generated, default.
    """

    values: dict[str, Any] = field(default_factory=dict, repr=False)
    sources: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


def read_environment(
    options: Sequence[Option],
    *,
    base_dir: Path,
    environment: Mapping[str, str] | None = None,
    known_elsewhere: Mapping[str, str] | None = None,
    prefixes: Sequence[str] = (),
    from_file: Collection[str] | None = None,
    make_keys: bool = True,
) -> Environment:
    """Read all ``options`` from ``environment`` (``os.environ`` and ``base_dir/.env`` when not given).

    ``from_file`` are names in ``environment`` that came from ``.env``. Without ``make_keys`` a key that nobody set and that was
    not generated yet is empty: for whoever only looks.

    ``known_elsewhere`` maps names that predecessors used and Switchboard does not need to a word on what replaced them;
    any other name that starts with one of ``prefixes`` and belongs to no option is reported as unknown.
    """
    result = Environment()
    if environment is not None:
        source, in_file = dict(environment), frozenset(from_file or ())
    else:
        source = _process_environment(base_dir, result.problems)
        in_file = frozenset(FROM_FILE)
    for option in options:
        # DATA_DIR comes first in the list: generated keys are kept below it.
        data_dir = result.values.get("DATA_DIR") or base_dir / "var"
        result.values[option.name] = _read(option, source, Path(data_dir), result, make_keys)
        result.places[option.name] = _place(result.sources[option.name], in_file)
    _report_unknown(options, source, known_elsewhere or {}, prefixes, result.problems)
    return result


def env_file(base_dir: Path) -> Path:
    """The file that is read when the environment does not say something."""
    return Path(os.environ.get("SWITCHBOARD_ENV_FILE") or base_dir / ".env").expanduser()


# Names that this process took from ``.env`` because its environment did not have them.
FROM_FILE: set[str] = set()
# The same for processes that inherit this one's environment, each with a digest of its value: one that replaces its own image
# would take yesterday's lines of the file for its environment, which wins over the file.
_MARK = "_SB_FROM_FILE"


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode(errors="surrogateescape")).hexdigest()[:16]


def _forget_inherited() -> None:
    for one in os.environ.pop(_MARK, "").split(","):
        name, _, digest = one.partition("=")
        if name in os.environ and _digest(os.environ[name]) == digest:
            del os.environ[name]


def dotenv_values(path: Path) -> dict[str, str]:
    """What the file sets, leaving the process's environment alone. Raises ``OSError``; a file that is missing sets nothing."""

    class File(environ.Env):
        ENVIRON: dict[str, str] = {}

    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            File.read_env(file, overwrite=True)
    except FileNotFoundError:
        return {}
    return dict(File.ENVIRON)


def environment_now(path: Path) -> tuple[dict[str, str], frozenset[str]]:
    """What a process that starts now would find, and which names of it come from the file at ``path``. Raises ``OSError``."""
    given = {name: value for name, value in os.environ.items() if name not in FROM_FILE and name != _MARK}
    file = dotenv_values(path)
    return {**file, **given}, frozenset(file) - frozenset(given)


def _process_environment(base_dir: Path, problems: list[Problem]) -> dict[str, str]:
    _forget_inherited()
    dotenv = env_file(base_dir)
    try:
        for name, value in dotenv_values(dotenv).items():
            if name not in os.environ:
                FROM_FILE.add(name)
                os.environ[name] = value
    except OSError as error:
        problems.append(Problem("switchboard.E003", "error", f"{dotenv.name} cannot be read: {error.strerror}."))
    if FROM_FILE:
        os.environ[_MARK] = ",".join(f"{name}={_digest(os.environ[name])}" for name in sorted(FROM_FILE))
    return {name: value for name, value in os.environ.items() if name != _MARK}


def _place(source: str, in_file: Collection[str]) -> str:
    if source in {"default", "generated"}:
        return source
    if source.endswith("_FILE"):
        return "secret file"
    return "file" if source in in_file else "environment"


def parse(option: Option, raw: str) -> Any:
    """The value that ``raw`` stands for. Raises ``ValueError`` with the reason."""
    try:
        return _cast(option, raw)
    except (TypeError, environ.ImproperlyConfigured) as error:
        raise ValueError(str(error)) from error


def _read(option: Option, source: Mapping[str, str], data_dir: Path, result: Environment, make_keys: bool) -> Any:
    raw, origin = _raw(option, source, result.problems)
    if raw is None and option.generate is not None:
        raw, origin = _generated(option, data_dir, make_keys), "generated"
    if raw is None or (raw == "" and option.kind != "text"):
        result.sources[option.name] = "default"
        return option.default
    result.sources[option.name] = origin
    if PLACEHOLDER.match(raw.strip()):
        result.problems.append(
            Problem(
                "switchboard.W001",
                "warning",
                f"{origin} holds a placeholder.",
                f"Give {option.name} its real value, or remove the line to use the default.",
                name=origin,
            )
        )
    try:
        return _cast(option, raw)
    except (ValueError, TypeError, environ.ImproperlyConfigured) as error:
        # Errors quote what they could not read.
        shown = "its value cannot be used" if option.secret and option.kind in {"int", "float"} else f"{error}"
        shown = shown if option.secret else f"{raw!r} ({error})"
        sentence = f"{origin} is not valid: {shown}."
        result.problems.append(Problem("switchboard.E001", "error", sentence, option.help, name=origin))
        return option.default


def _raw(option: Option, source: Mapping[str, str], problems: list[Problem]) -> tuple[str | None, str]:
    for name in (option.name, *option.aliases):
        if name in source:
            return source[name], name
        path = source.get(f"{name}_FILE") if option.secret else None
        if path:
            try:
                return Path(path).read_text(encoding="utf-8").strip(), f"{name}_FILE"
            except (OSError, UnicodeDecodeError) as error:
                problems.append(
                    Problem(
                        "switchboard.E002",
                        "error",
                        f"{name}_FILE names a file that cannot be read ({type(error).__name__}).",
                        f"Check the path and its permissions, or set {name} itself.",
                        name=f"{name}_FILE",
                    )
                )
    return None, option.name


def _generated(option: Option, data_dir: Path, make: bool) -> str:
    """A key that nobody set: made once, kept in ``<data dir>/keys/NAME`` and readable by the owner only."""
    assert option.generate is not None
    path = data_dir / "keys" / option.name.lower()
    if not make:
        try:
            return path.read_text(encoding="utf-8").strip()
        except OSError:
            return ""
    for _ in range(2):
        try:
            value = path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            value = ""
        if value:
            return value
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Written under another name and linked into place, so that two processes that start together agree on one key
        # and a crash leaves no half-written one.
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(option.generate())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            if not path.read_text(encoding="utf-8").strip():
                os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    return path.read_text(encoding="utf-8").strip()


def _cast(option: Option, raw: str) -> Any:
    value: Any
    text = raw.strip()
    if option.kind == "bool":
        lowered = text.lower()
        if lowered in {"1", "true", "yes", "on"}:
            return True
        if lowered in {"0", "false", "no", "off"}:
            return False
        raise ValueError("give true or false")
    if option.kind in {"int", "float"}:
        try:
            value = int(text) if option.kind == "int" else float(text)
        except ValueError:
            raise ValueError("give a whole number" if option.kind == "int" else "give a number") from None
        if option.floor is not None and value < option.floor:
            raise ValueError(f"the least allowed is {option.floor:g}")
        return value
    if option.kind == "list":
        return [part.strip() for part in text.split(",") if part.strip()]
    if option.kind == "url":
        if not re.match(r"^[a-z][a-z0-9+.\-]*://", text, re.IGNORECASE):
            raise ValueError("an address starts with its scheme, for example http://")
        return text.rstrip("/") if text.startswith("http") else text
    if option.kind == "path":
        return Path(text).expanduser()
    if option.choices and text.lower() not in option.choices:
        raise ValueError("one of " + ", ".join(option.choices))
    return text.lower() if option.choices else text


def _report_unknown(
    options: Sequence[Option],
    source: Mapping[str, str],
    known_elsewhere: Mapping[str, str],
    prefixes: Sequence[str],
    problems: list[Problem],
) -> None:
    known: set[str] = set()
    for option in options:
        for name in (option.name, *option.aliases):
            known.add(name)
            known.add(f"{name}_FILE")
    for name in sorted(source):
        if name in known:
            continue
        if name in known_elsewhere:
            sentence = f"{name} is no longer used."
            problems.append(Problem("switchboard.I001", "info", sentence, known_elsewhere[name], name=name))
        elif name.startswith(tuple(prefixes)) if prefixes else False:
            near = _nearest(name, known)
            hint = f"Did you mean {near}?" if near else "See docs/configuration.md for the names Switchboard knows."
            sentence = f"{name} is not a setting of Switchboard."
            problems.append(Problem("switchboard.W002", "warning", sentence, hint, name=name, near=near))


def _nearest(name: str, known: set[str]) -> str:
    import difflib

    matches = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.8)
    return matches[0] if matches else ""
