"""Reads the compose files and systemd units in use: which probes they have, and how long they let a process start."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from django.conf import settings

from ops.live import live, register_live

KEY = "DEPLOY_FILES"
_UNIT = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|us|min|[hms])?")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
# What Docker and systemd take when nothing is said.
COMPOSE_START_PERIOD = 0.0
SYSTEMD_START = 90.0


@dataclass(frozen=True, slots=True)
class Probed:
    """A service of a compose file, or a unit. ``test`` is its probe as one line ("" for none, None where there can be none).

    ``start_seconds`` is how long it may take to start before it counts as unhealthy: the start period and the tries after it.
    """

    file: str
    service: str
    role: str
    test: str | None
    start_seconds: float
    kind: str


class _Loader(yaml.SafeLoader):
    """Tags that compose knows (``!reset``) mean nothing here."""


_Loader.add_multi_constructor("!", lambda loader, suffix, node: None)


def _paths(value: Any) -> list[str]:
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, list):
        raise ValueError("Give paths, separated by commas.")
    return [str(word).strip() for word in words if str(word).strip()]


register_live(
    KEY,
    label="Compose files and systemd units in use",
    help="Paths, comma-separated, for checks to read. Those in deploy/ when empty.",
    parse=_paths,
    default=lambda: settings.DEPLOY_FILES,
)


def deploy_files() -> list[Path]:
    """The files to read: those that were named (relative to where Switchboard lies), else those that we ship."""
    base = Path(settings.BASE_DIR)
    named = [base / path for path in live(KEY)]
    if named:
        return named
    folder = base / "deploy"
    return [*sorted(folder.glob("*compose*.y*ml")), *sorted((folder / "systemd").glob("*.service"))]


def read_probes() -> tuple[list[Probed], list[str]]:
    """What the files say, and sentences about those that cannot be read."""
    found: list[Probed] = []
    problems: list[str] = []
    for path in deploy_files():
        try:
            text = path.read_text(encoding="utf-8")
            found += _unit(path, text) if path.suffix == ".service" else _compose(path, text)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            problems.append(f"{path} cannot be read ({type(error).__name__}).")
    return found, problems


def _compose(path: Path, text: str) -> list[Probed]:
    document = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader that ignores unknown tags
    services = document.get("services") if isinstance(document, dict) else None
    found = []
    for name, service in (services or {}).items():
        if not isinstance(service, dict):
            continue
        health = service.get("healthcheck") or {}
        start = seconds_of(health.get("start_period"), COMPOSE_START_PERIOD)
        tries = int(health.get("retries") or 3) * seconds_of(health.get("interval"), 30.0)
        found.append(Probed(str(path), str(name), _role(str(name), service), _test(health), start + tries, "compose"))
    return found


def _test(health: dict[str, Any]) -> str | None:
    if health.get("disable"):
        return "NONE"
    test = health.get("test")
    if test is None:
        return ""
    if isinstance(test, str):
        return test
    words = [str(word) for word in test]
    return " ".join(words[1:] if words and words[0] in ("CMD", "CMD-SHELL") else words)


def _role(name: str, service: dict[str, Any]) -> str:
    command = service.get("command")
    line = " ".join(map(str, command)) if isinstance(command, list) else str(command or "")
    return _role_of(line) or (name if name in ("web", "worker", "beat") else "")


def _role_of(line: str) -> str:
    for word, role in ((" beat", "beat"), (" worker", "worker"), ("daphne", "web"), ("manage.py up", "up")):
        if word in line:
            return role
    return ""


def _unit(path: Path, text: str) -> list[Probed]:
    lines = [line.strip() for line in text.splitlines()]
    values = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines if "=" in line)}
    start = seconds_of(values.get("TimeoutStartSec"), SYSTEMD_START)
    if values.get("TimeoutStartSec", "").lower() == "infinity":
        start = float("inf")
    # A unit's own probe would be ExecStartPost; systemd has no other.
    test = values.get("ExecStartPost")
    return [Probed(str(path), path.stem, _role_of(values.get("ExecStart", "")), test, start, "systemd")]


def seconds_of(value: Any, default: float) -> float:
    """``20s``, ``1m30s``, ``90`` as seconds; ``default`` for nothing or what cannot be read."""
    if value is None or value == "":
        return default
    if isinstance(value, (int, float)):
        return float(value)
    parts = _UNIT.findall(str(value).lower())
    return sum(float(number) * _SECONDS[unit] for number, unit in parts) if parts else default


_NOTHING = re.compile(
    r"""^(?:
        true | : | /bin/true | exit(\s+0)? | NONE | echo\b[^|&;]* | sleep\s+\S+
      | (?:\S*/)?(?:sh|bash)\s+-l?c\s+["']?(?:true|:|exit(?:\s+0)?|echo\b[^|&;"']*)["']?
      | (?:\S*/)?python[\d.]*\s+-c\s+["']?(?:import\s+sys\s*;?\s*)?(?:sys\.)?exit\(\s*0?\s*\)["']?
      | (?:\S*/)?python[\d.]*\s+-c\s+["']?(?:pass|print\([^)]*\))["']?
    )$""",
    re.VERBOSE,
)
_SWALLOWED = re.compile(r"(?:\|\||;)\s*(?:true|:|exit\s+0|/bin/true)\s*[\"']?$")


def cannot_fail(test: str) -> str:
    """Why a probe can never say no, "" when it can."""
    line = " ".join(test.split())
    if _NOTHING.match(line):
        return "it asks nothing and always succeeds"
    if _SWALLOWED.search(line):
        return "whatever it finds, it ends with success"
    if re.search(r"\bcurl\b", line) and not re.search(r"(\s-[a-zA-Z]*f|--fail)", line):
        return "curl without -f succeeds for every answer, a 500 too"
    return ""
