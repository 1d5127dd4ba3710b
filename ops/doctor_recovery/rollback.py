"""``recovery.rollback``: program and database of one release; ``release.rollback`` takes the database back to an earlier one's tables.

An older program cannot reverse migrations that it does not know. So the way back begins in the newer one: backup, reverse migrations, and
then the older program, by its image or its commit.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS

from ops.backup.errors import BackupError
from ops.backup.former import unknown_migrations
from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.leases import WORKER
from ops.models import BackupReason, Release
from ops.processes.queries import alive
from ops.registry import CheckOutcome, ServiceField, register_check
from ops.services.audit import record
from ops.services.releases import Difference, current, irreversible, newest_migrations, previous, to_reverse
from ops.words import counted, verb

CHECK = "recovery.rollback"
WORD = "roll back"


@register_check(
    CHECK,
    title="Program and database belong together",
    tags=("start", "data", "recovery"),
    interval=60,
    severity="error",
    depends_on=("db.reachable",),
)
def rollback_check() -> CheckOutcome:
    """Red when the database was migrated by a newer version than this program, as after going back to an older image by hand; amber when
    processes of different versions work at the same time."""
    unknown = unknown_migrations(DEFAULT_DB_ALIAS)
    row, before = current(), previous()
    evidence: dict[str, Any] = {
        "version": settings.VERSION,
        "unknown": [f"{app}.{name}" for app, name in unknown][:50],
        "release": str(row) if row is not None else "",
        "previous": str(before) if before is not None else "",
    }
    if unknown:
        newer = _newer(unknown)
        evidence["newer"] = str(newer) if newer is not None else ""
        who = f"Version {newer}" if newer is not None else "A newer version"
        return CheckOutcome(
            "fail",
            f"{who} migrated the database; this one is {settings.VERSION} and does not know {counted(len(unknown), 'migration')} of it, the "
            f"first is {unknown[0][0]}.{unknown[0][1]}. Go forward again, or go back in the right order: the guide has both.",
            evidence,
        )
    versions = sorted({process.version for process in alive() if process.version})
    evidence["running"] = versions
    if len(versions) > 1:
        return CheckOutcome(
            "warn",
            f"Processes of versions {' and '.join(versions)} work at the same time. Restart those that are left of the other one.",
            evidence,
        )
    return CheckOutcome("pass", f"Program and database are of {row or settings.VERSION}.", evidence)


def _newer(unknown: list[tuple[str, str]]) -> Release | None:
    """The release that brought a migration that this program does not know."""
    app, name = unknown[-1]
    return next((one for one in Release.objects.order_by("-id")[:100] if one.migrations.get(app) == name), None)


def _target(work: RepairWork) -> Release:
    wanted = str(work.params.get("release") or "").strip()
    row: Release | None
    if not wanted:
        row = previous()
    elif wanted.isdigit():
        row = Release.objects.filter(pk=int(wanted)).first()
    else:
        row = Release.objects.filter(version=wanted).order_by("-id").first()
    if row is None:
        raise RepairRefused(
            f"No release {wanted} ran here; the page of releases lists those that did."
            if wanted
            else "No earlier release ran here, so there is none to go back to."
        )
    return row


def plan(work: RepairWork) -> Plan:
    """Which migrations would be reversed, and what is to be done by hand afterwards. Nothing to reverse: the program is all that differs."""
    if unknown := unknown_migrations(DEFAULT_DB_ALIAS):
        raise RepairRefused(
            f"This version does not know {unknown[0][0]}.{unknown[0][1]}, so it cannot reverse it. Start the newer version's program, run this "
            "there, and then come back."
        )
    target = _target(work)
    nodes = to_reverse(dict(target.migrations))
    row = current()
    told = " ".join(Difference.between(target, row).sentences) if row is not None else ""
    if not nodes:
        return Plan(
            f"The tables are those of {target} already: only the program goes back. {told} {_by_hand(target)}".strip()[
                :1000
            ]
        )
    if never := irreversible(nodes):
        name = target.backup.name if target.backup is not None else _backup_after(target)
        raise RepairRefused(
            f"{', '.join(never)} cannot be reversed. Restore the backup from before the upgrade into an empty data directory with the older "
            f"version: {_checkout(target)}, then manage.py restore {name or 'NAME'}. What was said since is found on the homeserver again."
        )
    if others := [process for process in alive() if process.pk != WORKER]:
        raise RepairRefused(
            f"{counted(len(others), 'process', 'processes')} {verb(len(others), 'works', 'work')} with the present tables. Stop web servers, "
            "workers and beat (or `up`), then run it at a terminal: manage.py repair release.rollback"
        )
    return Plan(
        f"Back to {target}: {counted(len(nodes), 'migration')} {verb(len(nodes), 'is', 'are')} reversed, after a backup. What stands in tables and "
        f"columns that go is in the backup only. {told} Afterwards: {_by_hand(target)}"[:1000],
        tuple(Change(f"migration:{app}", name, before="applied", after="reversed") for app, name in nodes),
        {"target": target.pk, "nodes": [list(node) for node in nodes]},
        {"migrations": newest_migrations()},
    )


def apply(work: RepairWork) -> dict[str, Any]:
    """Backup, then app by app back to the target's newest migration."""
    from ops.services import backups

    target = Release.objects.get(pk=work.plan.data["target"])
    try:
        backup = backups.backup_now(reason=BackupReason.SAFETY, actor=work.actor, note=f"Before going back to {target}")
    except BackupError as error:
        raise RepairFailed(f"Nothing was reversed: no backup could be made first. {error}") from error
    work.remember(backup=backup.name)
    nodes = [(str(app), str(name)) for app, name in work.plan.data["nodes"]]
    record(
        actor=work.actor,
        action="release.rolled_back",
        target=target,
        message=f"{counted(len(nodes), 'migration')} reversed. Backup: {backup.name}.",
        after={"reversed": [f"{app}.{name}" for app, name in nodes]},
    )
    for number, app in enumerate(dict.fromkeys(app for app, _ in nodes), start=1):
        work.progress(number, len(nodes), app)
        call_command("migrate", app, target.migrations.get(app, "zero"), verbosity=0, interactive=False)
    return {"backup": backup.name, "reversed": len(nodes), "now": _by_hand(target)}


def undo(work: RepairWork) -> None:
    """Forward again, to where each app was."""
    for app, name in dict(work.snapshot.get("migrations") or {}).items():
        call_command("migrate", app, name, verbosity=0, interactive=False)


def _backup_after(target: Release) -> str:
    """The backup that was made when the release after this one first touched the database."""
    row = Release.objects.filter(pk__gt=target.pk).exclude(backup=None).order_by("pk").first()
    return row.backup.name if row is not None and row.backup is not None else ""


def _checkout(target: Release) -> str:
    if settings.PROCESS_MANAGER == "docker":
        return f"SWITCHBOARD_IMAGE=switchboard:{target.version} in deploy/.env"
    return f"git checkout {target.git_sha[:12] or 'v' + target.version}"


def _by_hand(target: Release) -> str:
    return f"{_checkout(target)}, install its requirements, start it."


register_repair(
    "release.rollback",
    title="Go back to an earlier release",
    repair_class="D",
    button="Show the way back",
    explain="Makes a backup, reverses the migrations that the earlier release did not have, and says which image or commit to start. Refused "
    "where a migration cannot be reversed: then the backup from before the upgrade is restored. Undoing migrates forward again.",
    plan=plan,
    apply=apply,
    undo=undo,
    fields=(ServiceField("release", "Back to", "A version, or the number of a release. Empty: the one before this."),),
    confirm_word=lambda work: WORD,
)


@register_guide(CHECK)
def guide(target: str, evidence: dict[str, Any]) -> Guide:
    """Forward again, or back in the right order, for this installation."""
    row, before = current(), previous()
    docker = settings.PROCESS_MANAGER == "docker"
    newer = str(evidence.get("newer") or "").split(" ")
    ahead = newer[0] or (row.version if row is not None else "NEWER")
    sha = newer[1] if len(newer) > 1 else (row.git_sha[:8] if row is not None and row.git_sha else f"v{ahead}")
    back = before or row
    older = back.version if back is not None else settings.VERSION
    commit = back.git_sha[:12] if back is not None and back.git_sha else f"v{older}"
    backup = next(
        (one.backup.name for one in Release.objects.exclude(backup=None).select_related("backup").order_by("-id")[:1] if one.backup), "NAME"
    )  # fmt: skip
    stop = (
        "docker compose stop web worker beat"
        if docker
        else "# stop `make up`, or: systemctl stop switchboard-web switchboard-worker@1 switchboard-beat"
    )
    forward = (
        f"# deploy/.env\nSWITCHBOARD_IMAGE=switchboard:{ahead}\n# then\ndocker compose up -d"
        if docker
        else f"git checkout {sha}\n.venv/bin/pip install -r requirements.txt\npython manage.py migrate"
    )
    run = "docker compose run --rm web " if docker else ""
    start = (
        f"# deploy/.env\nSWITCHBOARD_IMAGE=switchboard:{older}\n# then\ndocker compose up -d"
        if docker
        else f"git checkout {commit}\n.venv/bin/pip install -r requirements.txt\nmake up"
    )
    return Guide(
        "Bring program and database together",
        "The database was migrated by a newer version than the program that runs. An older program cannot take back what it does not know.",
        (
            GuideStep("The short way: start the newer version again.", forward),
            GuideStep("To go back in order: with the newer version's program, everything else stopped, reverse what it brought.", f"{stop}\n{run}python manage.py repair release.rollback --dry-run\n{run}python manage.py repair release.rollback"),
            GuideStep("Then start the older one.", start),
            GuideStep("Where something cannot be reversed: the backup from before the upgrade, into an empty database, with the older version.", f"{run}python manage.py restore {backup} --into sqlite:////new/place.sqlite3"),
            GuideStep("Look again.", f"{run}python manage.py doctor {CHECK}"),
        ),
    )  # fmt: skip
