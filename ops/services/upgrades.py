"""The backup before an upgrade: made before migrations change anything, listed once they are through, and not lost when they never are.

Its table may be among what the migrations change, so a note beside the file (``.upgrade-NAME.json``) stands for its row until then. A
process that is killed, or a migration that fails, leaves the note: the next ``migrate`` that comes through lists all of them.
"""

from __future__ import annotations

import json
import uuid
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections, transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from ops.backup import spool
from ops.backup.errors import BackupDamaged, BackupError
from ops.backup.former import unapplied
from ops.locks import LockHeld, named_lock
from ops.logs import get_logger
from ops.models import Backup, BackupReason, BackupState, Release
from ops.services.audit import record
from ops.services.releases import current, newest_migrations, note_release

log = get_logger(__name__)

# Backups before upgrades stay pinned for so many releases; older ones go by the rules of their destination.
_PINNED = 3
_NOTE = ".upgrade-{}.json"
# Seconds that a backup of somebody else may take.
_WAIT = 600.0


@dataclass(slots=True)
class Kept:
    """A backup that was made before migrations. ``migrations``: the newest ones of the tables that are in it, by app."""

    id: str
    name: str
    made_at: str
    facts: dict[str, Any]
    size: int
    sha256: str
    recipients: list[str]
    version: str
    installation: str
    migrations: dict[str, str]


def backup_before_upgrade() -> Kept | None:
    """Back the database up as it is, when this code's migrations are about to change it. None: there is nothing to change, or nothing to lose.

    The tables are read as the applied migrations left them. The file is read back to its end. Raises ``BackupError``.
    """
    connection = connections[DEFAULT_DB_ALIAS]
    tables = set(connection.introspection.table_names())
    if not settings.BACKUP_BEFORE_UPGRADE or not {"django_migrations", "ops_service", "chat_person"} <= tables:
        return None
    if not unapplied(DEFAULT_DB_ALIAS):
        return None
    from ops.services.backups import LOCK

    try:
        with ExitStack() as stack:
            if "ops_namedlock" in tables:
                # Whoever makes one in an older version clears half-written files away.
                stack.enter_context(named_lock(LOCK, wait=_WAIT))
                spool.sweep()
            return _make()
    except LockHeld as error:
        raise BackupError("Another backup is being made at the moment. Try again when it has ended.") from error


def _make() -> Kept:
    from ops.backup import age
    from ops.backup.verify import verify_backup
    from ops.backup.write import write_backup
    from ops.services import backups

    spool.check_room(spool.guess(0), asked_for="There is no room for a backup")
    recipients = _recipients()
    id, now = uuid.uuid4(), timezone.now()
    name, version = spool.new_name(id, now), _version_before()
    made_by = {
        "id": str(id),
        "name": name,
        "installation": spool.installation(),
        "version": version,
        "made_at": now.isoformat(),
    }
    with spool.writing(name) as file:
        manifest = write_backup(target=file, made_by=made_by, recipients=recipients)
    report = verify_backup(spool.path_of(name))
    if not report.ok:
        spool.path_of(name).unlink(missing_ok=True)
        raise BackupDamaged(
            f"The backup before the upgrade was written and cannot be read back: {report.findings[0].sentence if report.findings else ''}"
        )
    facts = backups.manifest_facts(manifest)
    facts.pop("made_at", None)
    kept = Kept(
        id=str(id),
        name=name,
        made_at=now.isoformat(),
        facts=facts,
        size=manifest.file_size,
        sha256=manifest.file_sha256,
        recipients=[age.fingerprint(one) for one in recipients],
        version=version,
        installation=spool.installation(),
        migrations=newest_migrations(),
    )
    _thin_out(kept.migrations)
    _note_path(name).write_text(json.dumps(asdict(kept), cls=DjangoJSONEncoder))
    return kept


def _recipients() -> list[str]:
    from ops.backup import age
    from ops.services import backup_keys

    try:
        with transaction.atomic():
            return backup_keys.recipients()
    except DatabaseError:
        # The table of keys is among what the migrations make.
        return age.recipients_of([age.machine_identity()])


def _version_before() -> str:
    try:
        with transaction.atomic():
            return Release.objects.order_by("-id").values_list("version", flat=True).first() or str(settings.VERSION)
    except DatabaseError:
        return str(settings.VERSION)


def _note_path(name: str) -> Path:
    return spool.folder() / _NOTE.format(name)


def waiting() -> list[Kept]:
    """Backups before upgrades whose rows are not written yet, the oldest first; those whose file is gone are forgotten."""
    found = []
    for path in (Path(settings.DATA_DIR) / spool.FOLDER).glob(_NOTE.format("*")):
        kept = None
        with suppress(OSError, ValueError, TypeError):
            kept = Kept(**json.loads(path.read_text()))
        if kept is not None and spool.path_of(kept.name).is_file():
            found.append(kept)
        else:
            path.unlink(missing_ok=True)
    return sorted(found, key=lambda kept: kept.made_at)


def _thin_out(migrations: dict[str, str]) -> None:
    """An upgrade that is begun again and again leaves two for each state of the tables: the first one, and the one that is made now."""
    for kept in [one for one in waiting() if one.migrations == migrations][1:]:
        spool.path_of(kept.name).unlink(missing_ok=True)
        _note_path(kept.name).unlink(missing_ok=True)


def finish_upgrade() -> Release | None:
    """Once all migrations are through: list the backups that were made before them, and note the release with the one to go back to.

    Does nothing when there are none.
    """
    kept = waiting()
    if not kept or unapplied(DEFAULT_DB_ALIAS):
        return None
    before = current()
    wanted = before.migrations if before is not None else kept[0].migrations
    # Those of a half-way state are none that the release before could read.
    way_back = [one.name for one in kept if one.migrations == wanted] or [kept[-1].name]
    rows = {one.name: _register(one) for one in kept}
    return note_release(backup=rows[way_back[-1]])


def _register(kept: Kept) -> Backup:
    """The row of a backup that was made before an upgrade, now that its table is there. Pinned for the next releases."""
    from ops.services.backup_copies import copies_begin

    row = Backup.objects.filter(name=kept.name).first()
    if row is None:
        made_at = parse_datetime(kept.made_at) or timezone.now()
        row = Backup(
            id=uuid.UUID(kept.id),
            name=kept.name,
            reason=BackupReason.SAFETY,
            note=f"Before the upgrade to {settings.VERSION}",
            installation=kept.installation,
            recipients=kept.recipients,
            actor="system",
            pinned=True,
            made_at=made_at,
            verified_at=made_at,
            finished_at=timezone.now(),
        )
        for name, value in kept.facts.items():
            setattr(row, name, value)
        row.version, row.size, row.sha256 = kept.version, kept.size, kept.sha256
        with transaction.atomic():
            row.save(force_insert=True)
            copies_wait = copies_begin(row)
            row.state = BackupState.PARTIAL if copies_wait else BackupState.COMPLETE
            row.save(update_fields=["state"])
            record(actor="system", action="backup.made", target=row, message=row.note)
            old = Release.objects.exclude(backup=None).order_by("-id").values_list("backup", flat=True)[_PINNED - 1 :]
            Backup.objects.filter(pk__in=list(old), pinned=True, reason=BackupReason.SAFETY).update(pinned=False)
    _note_path(kept.name).unlink(missing_ok=True)
    return row
