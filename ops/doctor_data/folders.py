"""``portal.data_dir_denied``: every folder that we write to can be written by us, and by nobody else. ``storage.fix_permissions`` sets it right."""

from __future__ import annotations

import os
import pwd
import stat
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from ops.doctor.faults import register_fault
from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.registry import CheckOutcome, Fix, register_check
from ops.services.audit import record
from ops.words import counted

# Folders below the data directory that we write to; each may be missing until it is needed.
FOLDERS = ("", "attachments", "logs", "exports", "imports", "backups", "media", "keys", "crypto", "static", "recovered")
# Served to everybody by a proxy that may run as another user.
_PUBLIC = ("static",)
FOLDER_MODE, PUBLIC_MODE, FILE_MODE = 0o700, 0o755, 0o600
# Files whose content is secret or is what people said.
_PRIVATE_FILES = ("keys/*", "crypto/*/*", "switchboard.sqlite3*", "exports/*", "backups/*")


@dataclass(frozen=True, slots=True)
class Found:
    """One path that is not as it should be. ``fatal``: it cannot be written."""

    path: Path
    why: str
    fatal: bool
    mode: int
    owner: int
    group: int
    wanted: int

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{path, why, mode, owner, group, wanted_mode}``; modes in octal."""
        return {
            "path": str(self.path),
            "why": self.why,
            "mode": f"{self.mode:04o}",
            "owner": self.owner,
            "group": self.group,
            "wanted_mode": f"{self.wanted:04o}",
        }


def look(root: Path | None = None) -> list[Found]:
    """Write, read and delete a file in every folder, and look at who else may write there; the worst first."""
    root = root or Path(settings.DATA_DIR)
    found: list[Found] = []
    for name in FOLDERS:
        path = root / name if name else root
        if not path.is_dir():
            continue
        facts = path.stat()
        mode = stat.S_IMODE(facts.st_mode)
        wanted = PUBLIC_MODE if name in _PUBLIC else FOLDER_MODE
        place: dict[str, Any] = {
            "path": path,
            "mode": mode,
            "owner": facts.st_uid,
            "group": facts.st_gid,
            "wanted": wanted,
        }
        refused = _try(path)
        if refused:
            why = f"{me()} cannot write {path} ({refused}; owner {facts.st_uid}:{facts.st_gid}, mode {mode:03o})"
            found.append(Found(why=why, fatal=True, **place))
        elif mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            found.append(
                Found(why=f"everybody on this machine can write {path} (mode {mode:03o})", fatal=False, **place)
            )
    for pattern in _PRIVATE_FILES:
        for file in sorted(root.glob(pattern))[:500]:
            with suppress(OSError):
                facts = file.lstat()
                mode = stat.S_IMODE(facts.st_mode)
                if stat.S_ISREG(facts.st_mode) and mode & stat.S_IWOTH:
                    found.append(
                        Found(
                            file,
                            f"everybody on this machine can write {file} (mode {mode:03o})",
                            False,
                            mode,
                            facts.st_uid,
                            facts.st_gid,
                            FILE_MODE,
                        )
                    )
    return sorted(found, key=lambda one: not one.fatal)


def _try(folder: Path) -> str:
    """Why a file cannot be written, read and deleted here; "" when it can."""
    probe = folder / f".doctor-{uuid.uuid4().hex}"
    try:
        probe.write_bytes(b"doctor")
        if probe.read_bytes() != b"doctor":
            return "what was written is not what is read"
        probe.unlink()
    except OSError as error:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
        return str(error.strerror or error)
    return ""


def me() -> str:
    """Who runs: ``uid 1000 (ada)``."""
    try:
        return f"uid {os.geteuid()} ({pwd.getpwuid(os.geteuid()).pw_name})"
    except KeyError:
        return f"uid {os.geteuid()}"


@register_check(
    "portal.data_dir_denied",
    title="The data directory can be written, by us alone",
    tags=("start", "data", "portal"),
    interval=300,
    severity="error",
    repairs=("storage.fix_permissions",),
)
def denied() -> CheckOutcome:
    """A file is written, read and deleted in every folder, as the user that we run as."""
    found = look()
    evidence: dict[str, Any] = {
        "uid": os.geteuid(),
        "gid": os.getegid(),
        "root": str(settings.DATA_DIR),
        "wrong": [one.to_dict() for one in found[:50]],
    }
    if not found:
        return CheckOutcome(
            "pass", f"{me()} writes, reads and deletes in {settings.DATA_DIR}, and nobody else can.", evidence
        )
    more = f" So it is with {counted(len(found) - 1, 'other place')}." if len(found) > 1 else ""
    sentence = f"{found[0].why[0].upper()}{found[0].why[1:]}.{more}"
    return CheckOutcome("fail" if found[0].fatal else "warn", sentence, evidence, fix=Fix("storage.fix_permissions"))


def plan(work: RepairWork) -> Plan:
    """Mode and, where we may, owner of each. Never wider than 700 and 600 (755 for what is public anyway)."""
    found = look()
    changes: list[Change] = []
    for one in found:
        if one.mode != one.wanted:
            changes.append(Change(str(one.path), "mode", f"{one.mode:03o}", f"{one.wanted:03o}"))
        if one.fatal and one.owner != os.geteuid():
            changes.append(Change(str(one.path), "owner", one.owner, os.geteuid()))
        if one.owner != os.geteuid() and os.geteuid() != 0:
            raise RepairRefused(
                f"{one.path} belongs to uid {one.owner}, and {me()} may not change that. As root: {command(one.path)}"
            )
    return Plan(
        f"{counted(len(found), 'place gets', 'places get')} its right mode."
        if found
        else "Nothing is wrong with the data directory.",
        tuple(changes),
        {"paths": [[str(one.path), one.wanted, one.fatal] for one in found]},
        {"paths": [[str(one.path), one.mode, one.owner, one.group] for one in found]},
    )


def command(path: Path) -> str:
    """The exact line for a shell, with our own ids."""
    return f"chown -R {os.geteuid()}:{os.getegid()} '{path}' && chmod -R u+rwX,go-w '{path}'"


def apply(work: RepairWork) -> dict[str, Any]:
    """One by one; a link is not followed."""
    done = 0
    for name, wanted, fatal in work.plan.data["paths"]:
        try:
            if os.path.islink(name):
                continue
            if fatal and os.geteuid() == 0 and os.stat(name).st_uid != 0:
                os.chown(name, os.geteuid(), os.getegid())
            os.chmod(name, wanted)
        except OSError as error:
            raise RepairFailed(f"{name}: {error.strerror}. As root: {command(Path(name))}") from error
        done += 1
    record(
        actor=work.actor,
        action="storage.permissions_fixed",
        after={"paths": [one[0] for one in work.plan.data["paths"]][:50]},
    )
    return {"paths": done}


def undo(work: RepairWork) -> None:
    """Back to what they were."""
    for name, mode, owner, group in work.snapshot["paths"]:
        with suppress(FileNotFoundError):
            if os.geteuid() == 0:
                os.chown(name, owner, group)
            os.chmod(name, mode)


register_repair(
    "storage.fix_permissions",
    title="Set owner and mode of the data directory right",
    repair_class="C",
    button="Set it right",
    explain="Folders become 700, files 600, owned by whoever runs Switchboard, as far as that user may change it; otherwise you are told the "
    "exact command. Nothing is ever made writable for everybody.",
    plan=plan,
    apply=apply,
    undo=undo,
)


@register_guide("portal.data_dir_denied")
def guide(target: str, evidence: dict[str, Any]) -> Guide:
    """For mounted folders, whose owner only the host can change."""
    uid, gid = os.geteuid(), os.getegid()
    root = settings.DATA_DIR
    return Guide(
        f"Let uid {uid} write {root}",
        "Switchboard runs as one user, and a mounted folder belongs to whoever made it. 777 is no remedy: everybody could change what is kept there.",
        (
            GuideStep("Whose is it?", f"ls -ldn '{root}' '{root}'/*"),
            GuideStep(
                "Give it to the user that Switchboard runs as; for a mounted volume on the host, with the host's path.",
                command(root),
            ),
            GuideStep(
                "Or run Switchboard as the owner.",
                f'services:\n  web:\n    user: "{uid}:{gid}"',
                "yaml",
                "compose.yaml",
            ),
            GuideStep("Look again.", "python manage.py doctor portal.data_dir_denied"),
        ),
    )


def _open_to_everybody() -> dict[str, Any]:
    """A folder that somebody has made writable for everybody, as bad advice says."""
    path = Path(settings.DATA_DIR) / "attachments"
    had = path.is_dir()
    path.mkdir(exist_ok=True, mode=FOLDER_MODE)
    mode = stat.S_IMODE(path.stat().st_mode)
    path.chmod(0o777)
    return {"path": str(path), "mode": mode, "had": had}


def _close_again(memory: dict[str, Any]) -> None:
    path = Path(memory["path"])
    if not memory["had"]:
        with suppress(OSError):
            path.rmdir()
    if path.is_dir():
        path.chmod(memory["mode"])


register_fault(
    "portal.data_dir_denied",
    title="A folder of the data directory is writable for everybody",
    cause=_open_to_everybody,
    heal=_close_again,
    evidence=("uid", "wrong"),
)
