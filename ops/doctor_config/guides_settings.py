"""Guides about settings and Python environments."""

from __future__ import annotations

import sys
from typing import Any

from django.conf import settings

from ops.configuration import edit
from ops.configuration.masks import mask, shown
from ops.configuration.schema import configuration
from ops.configuration.validity import flaws, placeholders
from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.network import container

_MOST = 10


@register_guide("config.env_invalid", "config.placeholder_db_uri")
def wrong_values(target: str, evidence: dict[str, Any]) -> Guide:
    """The exact line of each wrong setting, and where it stands."""
    reading = configuration().read()
    steps = []
    for flaw in [*flaws(reading), *placeholders(reading)][:_MOST]:
        kind, _, name = flaw.target.partition(":")
        if kind == "service":
            steps.append(GuideStep(flaw.sentence, f"python manage.py repair config.edit --target {flaw.target}"))
            continue
        setting = configuration().get(name)
        default = shown(setting.default) if setting is not None else ""
        near = str(flaw.params.get("rename_to", ""))
        line = f"{near}=…" if near else f"{name}=" + (default or "…")
        reason = edit.why_not(name, "…", reading=reading) if name else ""
        place = str(configuration().env_file()) if not reason else edit.where()
        steps.append(GuideStep(flaw.sentence, line, "ini", place))
    steps.append(GuideStep("Look again.", "python manage.py doctor config.env_invalid config.placeholder_db_uri"))
    return Guide(
        "Correct the settings",
        "A value that cannot be used is left out at the start, and the default takes its place; a placeholder connects to nothing.",
        tuple(steps),
    )


@register_guide("config.env_not_loaded")
def not_loaded(target: str, evidence: dict[str, Any]) -> Guide:
    """How the settings come into every process, and the restart that loads them."""
    names = [*(evidence.get("changed_on_disk") or ()), *(evidence.get("different") or {})]
    reading = configuration().read()
    lines = []
    for name in dict.fromkeys(names[:_MOST]):
        setting = configuration().get(name)
        value = reading.values.get(name)
        lines.append(f"{name}={mask(value) if setting is not None and setting.secret else shown(value)}")
    block = "\n".join(lines) or "NAME=value"
    return Guide(
        "Load the settings into every process",
        "A process reads its settings once, when it starts. What was changed since, or stands in a file that only one of them reads, "
        "the others do not see.",
        (
            GuideStep("All processes have to see the same.", block, "ini", str(configuration().env_file())),
            GuideStep(
                "With systemd every unit names the same file.",
                f"[Service]\nEnvironmentFile={configuration().env_file()}",
                "ini",
                "switchboard-web.service, switchboard-worker@.service, switchboard-beat.service",
            ),
            GuideStep(
                "With compose every service has it.", "    env_file: .env", "yaml", "compose.yaml: web, worker, beat"
            ),
            GuideStep("Then start them again.", _restart(), "sh"),
        ),
    )


def _restart() -> str:
    if settings.EMBEDDED:
        return "make up"
    if container.inside():
        return "docker compose up -d --force-recreate web worker beat"
    return "systemctl restart switchboard-web 'switchboard-worker@*' switchboard-beat"


@register_guide("config.mixed_venv")
def own_environment(target: str, evidence: dict[str, Any]) -> Guide:
    """The commands that make a fresh environment here, and one for the program that shared it."""
    prefix = next(iter(evidence.get("conflicts") or evidence.get("shared_with") or {}), sys.prefix)
    base = settings.BASE_DIR
    steps = [
        GuideStep(
            "Make Switchboard's environment anew, with nothing else in it.",
            f"cd {base}\nmv {prefix} {prefix}.old\npython3 -m venv {prefix}\n"
            f"{prefix}/bin/python -m pip install -r {base}/requirements.txt\n{prefix}/bin/python -m pip check",
        ),
    ]
    for names in (evidence.get("shared_with") or {}).values():
        for name in names:
            package = name.split()[0].lower().replace("synapse", "matrix-synapse")
            steps.append(
                GuideStep(
                    f"Give {name} an environment of its own.",
                    f"python3 -m venv /opt/{package}\n/opt/{package}/bin/pip install {package}",
                )
            )
    steps.append(GuideStep("Start Switchboard again.", _restart()))
    return Guide(
        "One Python environment for each program",
        "Programs that share an environment change each other's packages, and what worked yesterday fails after the next install.",
        tuple(steps),
    )
