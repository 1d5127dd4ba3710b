"""Checks of settings: can they be used, are they real, and did every process load them?"""

from __future__ import annotations

from typing import Any

from ops.configuration.schema import FILE, configuration
from ops.configuration.validity import OWN, Flaw, flaws, placeholders
from ops.models import Process
from ops.processes.facts import boot_id, settings_seen
from ops.processes.queries import alive, label
from ops.registry import Affected, CheckOutcome, Fix, register_check
from ops.words import verb

_TAGS = ("config", "start")


@register_check(
    "config.env_invalid",
    title="Every setting can be used",
    tags=_TAGS,
    interval=3600,
    severity="critical",
    timeout=20,
    repairs=("config.edit",),
)
def env_invalid() -> CheckOutcome:
    """Types, addresses, names that nobody knows, services with missing fields; as the next start would read them.

    The same runs as system checks at every start. Whether servers can be reached and accept us, checks of their own say.
    """
    found = flaws()
    if not found:
        return CheckOutcome("pass", f"All {len(configuration().settings)} settings can be used.")
    return _outcome(found, "cannot be used")


@register_check(
    "config.placeholder_db_uri",
    title="No setting holds a value of an example",
    tags=_TAGS,
    interval=300,
    severity="critical",
    timeout=15,
    repairs=("config.edit",),
)
def placeholder() -> CheckOutcome:
    """user:pass, changeme, sk-xxx, example.com and the like, in all settings, and in addresses, options and secrets of services."""
    found = placeholders()
    if not found:
        return CheckOutcome("pass", "No setting and no service holds a placeholder.")
    return _outcome(found, verb(len(found) - 1, "holds a placeholder", "hold a placeholder"))


def _outcome(found: list[Flaw], what: str) -> CheckOutcome:
    wrong = [flaw for flaw in found if flaw.wrong]
    first = found[0]
    more = f" {len(found) - 1} more {what}." if len(found) > 1 else ""
    fix = Fix("config.edit", first.target, first.params) if first.target else None
    return CheckOutcome(
        "fail" if wrong else "warn",
        f"{first.sentence}{more}",
        {
            "wrong": [flaw.target for flaw in found if flaw.wrong][:50],
            "odd": [flaw.target for flaw in found if not flaw.wrong][:50],
            "file": str(configuration().env_file()),
        },
        tuple(Affected(flaw.target, flaw.sentence) for flaw in found if flaw.target),
        fix,
    )


@register_check(
    "config.env_not_loaded",
    title="Every process runs with the settings as they are configured",
    tags=("config", "processes"),
    interval=60,
    severity="error",
    timeout=15,
    opens_after=2,
    # A value that cannot be used is not loaded either; that is told first.
    depends_on=("db.reachable", "config.env_invalid", "config.placeholder_db_uri"),
    repairs=("config.load", "service.restart"),
)
def env_not_loaded() -> CheckOutcome:
    """Compares what processes report (salted hashes, no values) with each other, and what we run with with what is configured."""
    processes = alive()
    changed = _not_loaded_here(processes)
    unlike = {name: rows for name, rows in _unlike(processes).items() if name not in changed}
    if not changed and not unlike:
        who = f"{len(processes)} processes run" if len(processes) > 1 else "What runs, runs"
        return CheckOutcome("pass", f"{who} with the settings as they are configured.")
    names = sorted({*changed, *unlike})
    sentences = []
    if changed:
        sentences.append(
            f"{_words(sorted(changed))} changed in {configuration().env_file()} and the processes here have not loaded it: restart them."
        )
    if unlike:
        sentences.append(f"Processes see different values of {_words(sorted(unlike))}: {_who(unlike, processes)}.")
    affected = tuple(Affected(f"setting:{name}", "Configured here, not seen by every process.") for name in names)
    behind = [row for row in processes if any(row.name in rows for rows in (*changed.values(), *unlike.values()))]
    return CheckOutcome(
        "fail",
        " ".join(sentences),
        {
            "changed_on_disk": sorted(changed),
            "different": dict(sorted(unlike.items())[:20]),
            "processes": {row.name: row.role for row in behind},
            "file": str(configuration().env_file()),
        },
        affected,
        Fix("config.load"),
    )


def behind_settings() -> dict[Process, list[str]]:
    """The processes that do not run with the settings as they are configured, each with the names of those settings."""
    processes = alive()
    changed = _not_loaded_here(processes)
    unlike = _unlike(processes)
    found: dict[Process, list[str]] = {}
    for row in processes:
        names = {name for known in (changed, unlike) for name, rows in known.items() if row.name in rows}
        if names:
            found[row] = sorted(names)
    return found


def _not_loaded_here(processes: list[Process]) -> dict[str, list[str]]:
    """Settings that the file gives another value than a process of this machine has, each with those processes.

    A line that was taken out of the file is not seen from here: its value may as well come from that process's environment.
    """
    configured = configuration().read()
    hashes = settings_seen(configured.values)
    found: dict[str, list[str]] = {}
    for row in processes:
        seen = row.settings_seen or {}
        if row.boot_id != boot_id() or seen.get("SECRET_KEY") != hashes["SECRET_KEY"]:
            continue
        for name, value in hashes.items():
            if seen.get(name) != value and configured.places.get(name) == FILE:
                found.setdefault(name, []).append(row.name)
    return found


def _unlike(processes: list[Process]) -> dict[str, list[str]]:
    """Settings of which processes see different values, each with the processes that see another one than most do."""
    seen = {row.name: dict(row.settings_seen or {}) for row in processes if row.settings_seen}
    if len({hashes.get("SECRET_KEY") for hashes in seen.values()}) > 1:
        # The key salts the other hashes: they cannot be compared.
        return {"SECRET_KEY": _minority("SECRET_KEY", seen)}
    names = sorted({name for hashes in seen.values() for name in hashes} - OWN)
    return {name: odd for name in names if (odd := _minority(name, seen))}


def _minority(name: str, seen: dict[str, dict[str, Any]]) -> list[str]:
    groups: dict[Any, list[str]] = {}
    for process, hashes in seen.items():
        groups.setdefault(hashes.get(name), []).append(process)
    if len(groups) < 2:
        return []
    largest = max(groups.values(), key=len)
    return sorted(process for rows in groups.values() if rows is not largest for process in rows)


def _who(unlike: dict[str, list[str]], processes: list[Process]) -> str:
    odd = {process for rows in unlike.values() for process in rows}
    return ", ".join(label(row) for row in processes if row.name in odd)


def _words(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
