"""A small file in every folder that must outlive a restart: when it is gone, the folder was not kept."""

from __future__ import annotations

import json
import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import transaction
from django.utils import timezone

from ops.models import AuditEvent
from ops.services.audit import record

MARK = ".switchboard-volume"
_ACTION, _TYPE = "storage.marked", "path"


@dataclass(frozen=True, slots=True)
class Mark:
    """What stands in the file. ``device`` is the number of the device then, ``lost_before``: an earlier mark had vanished."""

    id: str
    written_at: str
    device: int
    lost_before: bool = False


def mark_read(folder: Path) -> Mark | None:
    """The folder's mark; ``None`` when there is none, or one that nobody can read."""
    try:
        data = json.loads((folder / MARK).read_text(encoding="utf-8"))
        return Mark(str(data["id"]), str(data["written_at"]), int(data["device"]), bool(data.get("lost_before")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def mark_remembered(folder: Path) -> dict[str, Any] | None:
    """What the database remembers of the folder's last mark, ``None`` when it never had one."""
    event = AuditEvent.objects.filter(action=_ACTION, target_type=_TYPE, target_id=str(folder)[:255]).first()
    return dict(event.after or {}) if event is not None else None


def mark_write(*, folder: Path, lost_before: bool, actor: str) -> Mark:
    """Put a fresh mark into the folder, and remember it. Raises ``OSError`` for a folder that cannot be written."""
    mark = Mark(uuid.uuid4().hex, timezone.now().isoformat(), os.stat(folder).st_dev, lost_before)
    text = json.dumps(
        {"id": mark.id, "written_at": mark.written_at, "device": mark.device, "lost_before": mark.lost_before}
    )
    with transaction.atomic():
        record(
            actor=actor,
            action=_ACTION,
            target=f"{_TYPE}:{folder}",
            message="This folder must outlive a restart.",
            after={
                "id": mark.id,
                "device": mark.device,
                "host": socket.gethostname(),
                "lost_before": lost_before,
            },
        )
        scratch = folder / f"{MARK}.{mark.id[:8]}"
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(folder / MARK)
    return mark
