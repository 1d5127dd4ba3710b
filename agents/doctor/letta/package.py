"""``letta.local_patch_lost``: is the installed Letta the released one? A hand patch in site-packages vanishes on upgrade."""

from __future__ import annotations

import base64
import csv
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.utils import timezone

from agents.doctor.letta.common import letta_targets, named
from agents.doctor.letta.process import server_process
from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.models import CheckState, Service
from ops.registry import CheckOutcome, register_check
from ops.words import counted

ID = "letta.local_patch_lost"
SHOWN_FILES = 50
REMEMBERED = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class PackageState:
    """What RECORD says of an installed package and what is there. Paths are relative to ``site``."""

    site: Path
    version: str
    checked: int
    changed: tuple[str, ...]
    missing: tuple[str, ...]


@register_check(
    ID,
    title="Letta is installed as it was released",
    tags=["letta"],
    interval=3600,
    severity="warning",
    timeout=30,
    scope="service",
    targets=letta_targets,
    depends_on=["db.reachable"],
)
def local_patch_lost(target: str) -> CheckOutcome:
    """A warning while files differ from the release (the next upgrade undoes them), and for a week after an upgrade has.

    Where the package lies is found from the process that listens at the service's address, or told by the service's option
    ``package_path``; skipped when neither is known. Only files are read.
    """
    service = named(target)
    if service is None:
        return CheckOutcome("skip", "The service is switched off or was removed.")
    site, why = find_site(service)
    if site is None:
        return CheckOutcome("skip", f"Where Letta is installed is not known: {why}")
    state = inspect(site)
    if state is None:
        return CheckOutcome("skip", f"There is no installed package 'letta' with a RECORD in {site}.")
    evidence: dict[str, Any] = {
        "version": state.version,
        "path": str(site),
        "checked": state.checked,
        "changed": list(state.changed[:SHOWN_FILES]),
        "missing": list(state.missing[:SHOWN_FILES]),
    }
    before = CheckState.objects.filter(check_id=ID, target=target).values_list("evidence", flat=True).first() or {}
    lost = _lost(before, state)
    if lost:
        evidence["lost"] = lost
    differ = len(state.changed) + len(state.missing)
    if differ:
        files = counted(differ, "file differs", "files differ")
        return CheckOutcome(
            "warn",
            f"{files} from the released letta {state.version}: such a patch is lost with the next upgrade.",
            evidence,
        )
    if lost:
        return CheckOutcome(
            "warn",
            f"Letta went from {lost['version']} to {state.version}, and "
            f"{counted(len(lost['files']), 'patched file is', 'patched files are')} as released again: "
            "look whether what they mended is still mended.",
            evidence,
        )
    return CheckOutcome("pass", f"All {state.checked} files are those of letta {state.version}.", evidence)


def _lost(before: dict[str, Any], state: PackageState) -> dict[str, Any]:
    """Patches that were there at the last look, under another version, and are gone; remembered for a week."""
    held = before.get("lost")
    if isinstance(held, dict) and held.get("at") and not state.changed:
        fresh = timezone.now() - datetime.fromisoformat(held["at"]) < REMEMBERED
        return held if fresh else {}
    patched = set(before.get("changed") or ())
    if before.get("version") in (None, state.version) or not patched - set(state.changed):
        return {}
    return {
        "version": before["version"],
        "files": sorted(patched - set(state.changed)),
        "at": timezone.now().isoformat(timespec="seconds"),
    }


def find_site(service: Service) -> tuple[Path | None, str]:
    """The site-packages folder of the service's Letta, or why it is not known."""
    told = str(service.options.get("package_path") or "")
    if told:
        found = _site_in(Path(told))
        return found, "" if found else f"option package_path names {told}, where no package 'letta' is installed."
    process, why = server_process(service.base_url)
    if process is None:
        return None, why
    if process.prefix is None:
        return None, "its process does not say which Python environment it uses; name it in the option package_path."
    found = _site_in(process.prefix)
    return found, "" if found else f"in {process.prefix} no package 'letta' is installed."


def _site_in(folder: Path) -> Path | None:
    """The folder itself, or the site-packages of the environment that it is."""
    for place in (folder, *sorted(folder.glob("lib/python3*/site-packages"))):
        if next(place.glob("letta-*.dist-info/RECORD"), None) is not None:
            return place
    return None


def inspect(site: Path) -> PackageState | None:
    """Compare every file of the package with its hash in RECORD (PEP 376, PEP 627). None when there is no RECORD."""
    record = next(site.glob("letta-*.dist-info/RECORD"), None)
    if record is None:
        return None
    changed, missing, checked = [], [], 0
    with record.open(newline="", encoding="utf-8") as lines:
        for row in csv.reader(lines):
            # What has no hash is made at installation (bytecode, RECORD itself).
            if len(row) < 2 or not row[1].startswith("sha256=") or not row[0].startswith("letta/"):
                continue
            checked += 1
            try:
                with (site / row[0]).open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").digest()
            except OSError:
                missing.append(row[0])
                continue
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != row[1].removeprefix("sha256="):
                changed.append(row[0])
    version = re.sub(r"^letta-|\.dist-info$", "", record.parent.name)
    return PackageState(site, version, checked, tuple(changed), tuple(missing))


@register_guide(ID)
def guide(target: str, evidence: dict[str, Any]) -> Guide:
    """Shows the difference to the release, and how to be rid of it."""
    version, path = evidence.get("version") or "0.16.8", evidence.get("path") or "/path/to/site-packages"
    changed = [str(one) for one in evidence.get("changed") or ()]
    python = re.sub(r"/lib/python3[^/]*/site-packages$", "/bin/python", str(path))
    python = python if python != path else "python3"
    lost = evidence.get("lost") or {}
    compare = "\n".join(f"diff -u /tmp/letta-{version}/{one} {path}/{one}" for one in changed[:20])
    steps = [
        GuideStep(
            "Fetch the released files beside the installed ones:",
            f"{python} -m pip download --no-deps --dest /tmp letta=={version}\n"
            f"{python} -m zipfile -e /tmp/letta-{version}-py3-none-any.whl /tmp/letta-{version}",
        )
    ]
    if compare:
        keep = f"diff -ru -x __pycache__ /tmp/letta-{version}/letta {path}/letta > letta-{version}.patch"
        steps += [
            GuideStep("Show the difference:", compare),
            GuideStep("If it is still needed, keep it as a patch of a fork of your own, pinned by its commit:", keep),
        ]
    if lost:
        steps.append(
            GuideStep("These files were patched before the upgrade:", "\n".join(lost.get("files", ())), "text")
        )
    steps += [
        GuideStep(
            "Mend the cause by configuration where there is one: for 'INSERT OR IGNORE' it is the variable LETTA_PG_URI.",
            "LETTA_PG_URI=postgresql://letta:PASSWORD@127.0.0.1:5432/letta",
            "ini",
        ),
        GuideStep(
            "Put the released files back, then restart Letta:",
            f"{python} -m pip install --force-reinstall --no-deps letta=={version}",
        ),
    ]
    return Guide(
        "Letta differs from its release",
        "A file that was changed by hand inside site-packages is overwritten by the next upgrade, silently.",
        tuple(steps),
    )
