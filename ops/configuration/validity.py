"""What is wrong with the settings and with the rows of services, without asking any server."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

from django.core import checks

from ops.configuration.placeholders import why_placeholder
from ops.configuration.schema import DEFAULT, GENERATED, Reading, configuration
from ops.models import Service
from ops.secrets import SecretUnreadable
from ops.services.services import service_problems

# Told by the reading itself, which may be newer than what this process started with; placeholders have a check of their own.
_READ = ("switchboard.E001", "switchboard.E002", "switchboard.E003", "switchboard.W001", "switchboard.W002")
PLACEHOLDER = "switchboard.W001"
# Two processes of one installation may differ in these.
OWN = frozenset(
    {
        *("HOST", "PORT", "LOG_FORMAT", "LOG_LEVEL", "WORKER_CONCURRENCY", "DATA_DIR"),
        *("SWITCHBOARD_SYNAPSE_VENV", "LOCAL_HOMESERVER_PORT"),
    }
)


@dataclass(frozen=True, slots=True)
class Flaw:
    """One value that is wrong. ``target`` is ``setting:NAME`` or ``service:NAME``; ``params`` fill the form that corrects it."""

    target: str
    sentence: str
    level: str = "error"
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def wrong(self) -> bool:
        return self.level == "error"


def flaws(reading: Reading | None = None) -> list[Flaw]:
    """Everything that is not valid, errors first. ``reading``: of the settings as the next start would find them."""
    reading = reading or configuration().read()
    found = [
        _of_trouble(trouble) for trouble in reading.troubles if trouble.code != PLACEHOLDER and trouble.level != "info"
    ]
    found += _of_system_checks()
    found += _of_services()
    return sorted(found, key=lambda flaw: not flaw.wrong)


def placeholders(reading: Reading | None = None) -> list[Flaw]:
    """Values of examples among the settings and in the rows of enabled services."""
    reading = reading or configuration().read()
    found = []
    for name, value in reading.values.items():
        if reading.places.get(name, DEFAULT) in (DEFAULT, GENERATED):
            continue
        why = why_placeholder(value)
        if why:
            found.append(Flaw(f"setting:{name}", f"{reading.sources[name]} holds a placeholder: {why}."))
    # A value that could not be read has become the default; the reading still knows that it was a placeholder.
    known = {flaw.target for flaw in found}
    for trouble in reading.troubles:
        target = f"setting:{reading.setting_of(trouble.name)}"
        if trouble.code == PLACEHOLDER and target not in known:
            found.append(Flaw(target, trouble.sentence))
    return found + _in_services()


def _of_trouble(trouble: Any) -> Flaw:
    params = {"rename_to": trouble.near} if trouble.near else {}
    return Flaw(f"setting:{trouble.name}", f"{trouble.sentence} {trouble.hint}".strip(), trouble.level, params)


def _of_system_checks() -> list[Flaw]:
    found = []
    for message in checks.run_checks(tags=["switchboard"]):
        if message.is_silenced() or message.id in _READ or message.level < checks.WARNING:
            continue
        level = "error" if message.level >= checks.ERROR else "warning"
        words = str(message.msg).split()
        name = next((word.strip(":.'\"") for word in words if configuration().get(word.strip(":.'\""))), "")
        found.append(Flaw(f"setting:{name}" if name else "", f"{message.msg} {message.hint or ''}".strip(), level))
    return found


def _of_services() -> list[Flaw]:
    found = []
    for service in Service.objects.filter(enabled=True).order_by("name"):
        for place, sentences in service_problems(service).items():
            where = f"{service.name}, {place}: " if place != "__all__" else f"{service.name}: "
            params = {"field": place} if place == "base_url" else {}
            found.append(Flaw(f"service:{service.name}", where + " ".join(sentences), params=params))
    return found


def _in_services() -> list[Flaw]:
    found = []
    for service in Service.objects.filter(enabled=True).order_by("name"):
        parts: dict[str, Any] = {"base_url": service.base_url}
        parts |= {f"options.{name}": value for name, value in (service.options or {}).items()}
        # Another check tells of keys that are gone.
        with contextlib.suppress(SecretUnreadable):
            parts |= {f"credentials.{name}": value for name, value in (service.credentials or {}).items()}
        for field_name, value in parts.items():
            why = why_placeholder(value)
            if why:
                sentence = f"{service.name}, {field_name} holds a placeholder: {why}."
                found.append(Flaw(f"service:{service.name}", sentence, params={"field": field_name}))
    return found
