"""Writes where copies of backups go: folders and S3, each with its own retention."""

from __future__ import annotations

import hashlib
import secrets
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from ops.backup import spool
from ops.backup.destinations import open_destination
from ops.backup.errors import BackupError, DestinationFailed
from ops.models.backup import BackupDestination, CopyState, DestinationKind
from ops.redaction import redact_text
from ops.services import audit

_SHOWN = ("name", "kind", "options", "enabled", "keep_last", "keep_daily", "keep_weekly", "keep_monthly")
_OPTIONS = {
    DestinationKind.FOLDER: ("path",),
    DestinationKind.S3: ("endpoint_url", "bucket", "prefix", "region", "addressing"),
}
_CREDENTIALS = ("access_key", "secret_key")
_ADDRESSING = ("", "auto", "path", "virtual")
HERE = "here"


def ensure_one() -> BackupDestination | None:
    """Where nobody has said where copies go, they stay in the data directory. Returns the row when it was made."""
    if BackupDestination.objects.exists():
        return None
    row, made = BackupDestination.objects.get_or_create(
        name=HERE, defaults={"kind": DestinationKind.FOLDER, "options": {"path": spool.FOLDER}}
    )
    return row if made else None


def destination_save(
    *,
    actor: str,
    destination: BackupDestination | None = None,
    name: str,
    kind: str = DestinationKind.FOLDER,
    options: Mapping[str, Any],
    credentials: Mapping[str, Any] | None = None,
    enabled: bool = True,
    keep_last: int = 3,
    keep_daily: int = 7,
    keep_weekly: int = 4,
    keep_monthly: int = 6,
) -> BackupDestination:
    """Create a destination or change one. ``credentials`` None keeps the stored ones. Raises ``ValidationError``, one entry a field."""
    new: dict[str, Any] = {
        "name": name.strip(),
        "kind": kind,
        "options": {key: str(value).strip() for key, value in options.items() if str(value or "").strip()},
        "enabled": enabled,
        "keep_last": keep_last,
        "keep_daily": keep_daily,
        "keep_weekly": keep_weekly,
        "keep_monthly": keep_monthly,
    }
    given = None if credentials is None else {key: str(value) for key, value in credentials.items() if value}
    _validate(destination, new, given)
    with transaction.atomic():
        row = (
            BackupDestination.objects.select_for_update().get(pk=destination.pk)
            if destination is not None
            else BackupDestination()
        )
        fresh = row.pk is None
        before = {} if fresh else {key: getattr(row, key) for key in _SHOWN}
        if not fresh and before == new and given is None:
            return row
        for key, value in new.items():
            setattr(row, key, value)
        if given is not None:
            row.credentials = given
        row.save()
        old, after = audit.changes(before, new)
        if given is not None:
            after["credentials_changed"] = True
        action = "backupdestination.created" if fresh else "backupdestination.changed"
        audit.record(actor=actor, action=action, target=row, before=old, after=after)
    return row


def _validate(
    destination: BackupDestination | None, new: dict[str, Any], credentials: Mapping[str, Any] | None
) -> None:
    problems: dict[str, list[str]] = {}
    others = BackupDestination.objects.all()
    if destination is not None:
        others = others.exclude(pk=destination.pk)
    if not new["name"] or len(new["name"]) > 64:
        problems["name"] = ["Give it a name of at most 64 characters."]
    elif others.filter(name=new["name"]).exists():
        problems["name"] = ["Another destination has this name."]
    if new["kind"] not in DestinationKind.values:
        problems["kind"] = [f"There are {', '.join(DestinationKind.values)}."]
    elif unknown := sorted(set(new["options"]) - set(_OPTIONS[DestinationKind(new["kind"])])):
        problems["options"] = [f"Not known for this kind: {', '.join(unknown)}."]
    elif new["kind"] == DestinationKind.FOLDER and not new["options"].get("path"):
        problems["options"] = ["Say which folder (path); relative ones lie below the data directory."]
    elif new["kind"] == DestinationKind.S3:
        endpoint = urlsplit(new["options"].get("endpoint_url", ""))
        if not new["options"].get("bucket"):
            problems["options"] = ["Say which bucket."]
        elif new["options"].get("endpoint_url") and (endpoint.scheme not in ("http", "https") or not endpoint.hostname):
            problems["options"] = ["The endpoint is an address that begins with https://."]
        elif endpoint.username or endpoint.password:
            problems["options"] = ["No credentials in the address: give them as access key and secret key."]
        elif new["options"].get("addressing", "") not in _ADDRESSING:
            problems["options"] = ["Addressing is auto, path or virtual."]
    if credentials is not None and (unknown := sorted(set(credentials) - set(_CREDENTIALS))):
        problems["credentials"] = [f"Not known: {', '.join(unknown)}. There are {', '.join(_CREDENTIALS)}."]
    if credentials and len(credentials) == 1:
        problems["credentials"] = ["An access key and a secret key belong together."]
    for key in ("keep_last", "keep_daily", "keep_weekly", "keep_monthly"):
        value = new[key]
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 10_000:
            problems[key] = ["Give a whole number from 0 to 10,000."]
    if not problems and not any(new[key] for key in ("keep_last", "keep_daily", "keep_weekly", "keep_monthly")):
        problems["keep_last"] = ["Keep at least one."]
    if problems:
        raise ValidationError(problems)


def destination_switch(*, destination: BackupDestination, enabled: bool, actor: str) -> None:
    """Switch a destination on or off; its copies stay."""
    with transaction.atomic():
        if BackupDestination.objects.filter(pk=destination.pk).exclude(enabled=enabled).update(enabled=enabled):
            action = f"backupdestination.switched_{'on' if enabled else 'off'}"
            audit.record(actor=actor, action=action, target=destination)
    destination.enabled = enabled


def destination_remove(*, destination: BackupDestination, actor: str) -> None:
    """Forget a destination. The files there stay: whoever wants them gone deletes the backups first.

    Raises ``ValueError`` when the only copy of the last good backup lies there.
    """
    from ops.services.backups import last_good

    good = last_good()
    if good is not None:
        stored = good.copies.filter(state=CopyState.STORED)
        if stored.filter(destination=destination).exists() and not stored.exclude(destination=destination).exists():
            raise ValueError(
                f"The only copy of the last good backup ({good.name}) lies there. Bring one elsewhere first: add another destination "
                "and run: python manage.py backup copy."
            )
    with transaction.atomic():
        audit.record(
            actor=actor,
            action="backupdestination.removed",
            target=destination,
            before={key: getattr(destination, key) for key in _SHOWN},
        )
        destination.delete()


@dataclass(frozen=True, slots=True)
class TestOutcome:
    """How a test of a destination went."""

    ok: bool
    sentence: str


def destination_test(*, destination: BackupDestination, actor: str) -> TestOutcome:
    """Write a small file there, read it back, find it in the list, and remove it. The row says how that went."""
    name = f"switchboard-test-{uuid.uuid4().hex[:12]}"
    data = secrets.token_bytes(4096)
    try:
        place = open_destination(destination)
        with tempfile.TemporaryDirectory(prefix="switchboard-") as scratch:
            source, back = Path(scratch) / "out", Path(scratch) / "back"
            source.write_bytes(data)
            place.put(source, name, sha256=hashlib.sha256(data).hexdigest())
            try:
                place.fetch(name, back)
                if back.read_bytes() != data:
                    raise DestinationFailed(f"{place.where()} gives back something else than was written.")
                if name not in {entry.name for entry in place.entries()}:
                    raise DestinationFailed(f"{place.where()} does not list what was just written.")
            finally:
                place.delete(name)
        outcome = TestOutcome(True, f"Written, read back, listed and removed at {place.where()}.")
    except BackupError as error:
        outcome = TestOutcome(False, redact_text(str(error)))
    now = timezone.now()
    with transaction.atomic():
        fields: dict[str, Any] = (
            {"last_ok_at": now, "last_error": ""}
            if outcome.ok
            else {"last_error": outcome.sentence[:500], "last_error_at": now}
        )
        BackupDestination.objects.filter(pk=destination.pk).update(**fields)
        audit.record(
            actor=actor,
            action="backupdestination.tested",
            target=destination,
            message=outcome.sentence,
            after={"ok": outcome.ok},
        )
    destination.refresh_from_db()
    return outcome
