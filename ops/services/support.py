"""Makes, keeps and removes files for support, each with its line in the audit log."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from django.core.exceptions import ValidationError
from django.utils import timezone

from ops.logbook import reader
from ops.services import audit
from ops.support import folder
from ops.support.bundle import BundleUnsafe, BundleWish, file_name, make
from ops.words import counted

LARGEST_EXPORT = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Made:
    """A file that was made. ``parts`` are the names in it (for a bundle), ``failed`` the parts that could not be made."""

    name: str
    size: int
    parts: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    lines: int = 0


def bundle_make(*, wish: BundleWish, actor: str) -> Made:
    """Make a support bundle and keep it for fetching. Raises ``ValidationError`` when it cannot be kept or would hold a secret."""
    bundle = make(wish)
    try:
        content = bundle.to_zip()
        path = folder.keep(file_name(), content)
    except BundleUnsafe as error:
        raise ValidationError(str(error)) from None
    except OSError as error:
        raise ValidationError(folder.why_unusable() or f"The bundle cannot be kept: {error.strerror}.") from None
    audit.record(
        actor=actor,
        action="support.bundle",
        target=f"support:{path.name}",
        message=f"{counted(len(bundle.files), 'file')}"
        + (f", traces of {counted(len(wish.messages), 'message')}" if wish.messages else "")
        + (", with what was said in them" if wish.messages and wish.texts else ""),
    )
    return Made(path.name, len(content), tuple(bundle.files), tuple(bundle.failed))


def logs_export(*, wanted: reader.LogFilter, form: str, actor: str) -> Made:
    """Keep the lines that fit as a file (``jsonl`` or ``text``). Raises ``ValidationError``."""
    pieces: list[bytes] = []
    size = 0
    for piece in reader.export(wanted, form):
        raw = piece.encode("utf-8", "replace")
        size += len(raw)
        if size > LARGEST_EXPORT:
            raise ValidationError(f"That is more than {LARGEST_EXPORT >> 20} MB of lines; choose fewer.")
        pieces.append(raw)
    suffix = "jsonl" if form == "jsonl" else "txt"
    try:
        path = folder.keep(f"logs-{timezone.now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:8]}.{suffix}", b"".join(pieces))
    except OSError as error:
        raise ValidationError(folder.why_unusable() or f"The file cannot be kept: {error.strerror}.") from None
    audit.record(
        actor=actor,
        action="logs.exported",
        target=f"support:{path.name}",
        message=f"{counted(len(pieces), 'line')} {wanted.query}",
    )
    return Made(path.name, size, lines=len(pieces))


def file_remove(*, name: str, actor: str) -> bool:
    """Delete a file that was kept; False when there is none."""
    if not folder.remove(name):
        return False
    audit.record(actor=actor, action="support.removed", target=f"support:{name}")
    return True
