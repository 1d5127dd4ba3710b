"""What this floor's secrets are called when their key is lost: sessions of accounts, keys of encrypted rooms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.conf import settings

from agents.matrix.crypto import folder
from agents.matrix.crypto.rotation import LABEL
from agents.models import Account, AccountSession
from ops.losses import register_loss


def _sessions(keys: Sequence[str], actor: str) -> None:
    """They are opened anew, as for an account that never had one."""
    for start in range(0, len(keys), 500):
        Account.objects.filter(pk__in=keys[start : start + 500]).update(
            session=AccountSession.NONE, session_error="", session_checked_at=None, session_retry_at=None
        )


def _move_aside(keys: Sequence[str]) -> list[dict[str, Any]]:
    data, moved = Path(settings.DATA_DIR), []
    for path in folder.files():
        if path.name not in keys:
            continue
        place = data / folder.ASIDE / path.relative_to(data)
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for suffix in ("", "-wal", "-shm"):
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.replace(place.with_name(place.name + suffix))
        moved.append({"path": str(path.relative_to(data))})
    return moved


def _move_back(rows: Sequence[dict[str, Any]]) -> int:
    data, count = Path(settings.DATA_DIR), 0
    for row in rows:
        place, aside = data / row["path"], data / folder.ASIDE / row["path"]
        if aside.exists() and not place.exists():
            for suffix in ("-wal", "-shm", ""):
                part = aside.with_name(aside.name + suffix)
                if part.exists():
                    part.replace(place.with_name(place.name + suffix))
            count += 1
    return count


register_loss(
    "agents.Account.secrets",
    what="sessions and passwords of agents' accounts",
    advice="Sessions are opened anew where the homeserver lets us; enter the password of an account that only has one.",
    settle=_sessions,
)
register_loss(
    LABEL,
    what="keys of encrypted rooms",
    advice="The account gets a new device; what was said before in encrypted rooms stays unreadable there. See the check of encrypted rooms.",
    clear=_move_aside,
    put_back=_move_back,
)
register_loss(
    "agents.MappingImportRow.record",
    what="records of imported files",
    advice="Import the file again if its rejects are needed.",
    matters=False,
)
