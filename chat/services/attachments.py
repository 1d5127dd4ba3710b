"""Files that people send: taken in, given out, and forgotten when nobody needs them."""

from __future__ import annotations

from datetime import timedelta
from typing import BinaryIO

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from chat.attachments import folder
from chat.attachments.kinds import CONVERTED, KINDS, PICTURES, kind_of
from chat.attachments.names import clean_name
from chat.attachments.pictures import PictureUnreadable, redraw
from chat.models import Attachment, Person
from ops import disk_guard
from ops.logs import get_logger

log = get_logger(__name__)

# What is never sent goes after a day.
UNSENT_FOR = timedelta(days=1)
MOST_UNSENT = 100
_BATCH = 500


class AttachmentRefused(Exception):
    """The file was not taken; ``sentence`` says why and what to do, ``code`` is stable."""

    def __init__(self, sentence: str, *, code: str) -> None:
        super().__init__(sentence)
        self.sentence, self.code = sentence, code


def largest_bytes() -> int:
    """How large a file may be."""
    return int(settings.ATTACHMENT_MAX_MB * 1024 * 1024)


def too_large() -> AttachmentRefused:
    return AttachmentRefused(
        f"The file is larger than {settings.ATTACHMENT_MAX_MB} MB. Send a smaller one.", code="attachment.too_large"
    )


def attachment_store(*, person: Person, file: BinaryIO, name: str, actor: str) -> Attachment:
    """Take in a file that a person is about to send. It belongs to them alone until then. Raises ``AttachmentRefused``.

    What it is says its content. Pictures are drawn anew, without their metadata. Not audited: sending the message is.
    """
    if Attachment.objects.filter(owner=person, message=None).count() >= MOST_UNSENT:
        raise AttachmentRefused(
            f"You have {MOST_UNSENT} files that were never sent. Send or remove some, or wait a day.",
            code="attachment.unsent",
        )
    _refuse_without_room()
    try:
        with folder.being_written() as received:
            _receive(file, received)
            return _store(person, received, name)
    except folder.NoSpace as error:
        log.error("attachment.no_space", error=str(error))
        raise AttachmentRefused(
            "There is no room for files on the server at the moment. Nothing was kept; tell an operator, and try again later.",
            code="attachment.no_space",
        ) from error


def attachment_take_in(*, file: BinaryIO, name: str, owner: Person | None) -> Attachment:
    """Take in a file that came with a message from elsewhere; whoever calls gives it its message. Raises ``AttachmentRefused``."""
    _refuse_without_room()
    try:
        with folder.being_written() as received:
            _receive(file, received)
            return _store(owner, received, name)
    except folder.NoSpace as error:
        log.error("attachment.no_space", error=str(error))
        raise AttachmentRefused("There is no room for files on the server.", code="attachment.no_space") from error


def _refuse_without_room() -> None:
    """Files wait while the room that is left is kept for the database. The sentence for people says nothing of our folders."""
    reason = disk_guard.may("attachment", folder=settings.ATTACHMENTS_DIR)
    if reason:
        log.warning("attachment.disk_low", reason=reason)
        raise AttachmentRefused(
            "There is too little room for files on the server at the moment. Messages go on as ever; tell an operator, and send the file later.",
            code="attachment.no_space",
        )


def _receive(file: BinaryIO, received: BinaryIO) -> None:
    size, most = 0, largest_bytes()
    while chunk := file.read(folder.CHUNK):
        size += len(chunk)
        if size > most:
            raise too_large()
        received.write(chunk)
    if not size:
        raise AttachmentRefused("The file is empty.", code="attachment.empty")


def _store(person: Person | None, received: BinaryIO, name: str) -> Attachment:
    media_type = kind_of(received)
    if media_type is None:
        labels = ", ".join(kind.label for kind in KINDS)
        raise AttachmentRefused(
            f"Files of this kind are not taken. What is taken: {labels}. What a file is shows its content, not its name.",
            code="attachment.kind",
        )
    if media_type not in (*PICTURES, *CONVERTED):
        return _keep(person, received, Attachment(name=clean_name(name), media_type=media_type))
    with folder.being_written() as drawn:
        received.seek(0)
        try:
            picture = redraw(received, drawn)
        except PictureUnreadable as error:
            raise AttachmentRefused(error.sentence, code="attachment.broken") from error
        shown = Attachment(
            name=clean_name(name, suffix=picture.suffix),
            media_type=picture.media_type,
            width=picture.width,
            height=picture.height,
        )
        return _keep(person, drawn, shown)


def _keep(person: Person | None, file: BinaryIO, row: Attachment) -> Attachment:
    content = folder.keep(file)
    row.owner, row.sha256, row.size, row.path = person, content.sha256, content.size, content.path
    row.save(force_insert=True)
    # Pruning may have taken the same content away before the row was there to hold it.
    folder.ensure(file, content)
    return row


def open_content(attachment: Attachment) -> BinaryIO:
    """The content of an attachment. Raises ``FileNotFoundError`` when it is gone from the disk."""
    return folder.open_content(attachment.path)


def attachment_discard(*, attachment: Attachment, actor: str) -> None:
    """Remove a file that was not sent. One that was belongs to its message, and stays."""
    with transaction.atomic():
        Attachment.objects.filter(pk=attachment.pk, message=None).delete()


def prune_attachments() -> dict[str, int]:
    """Forget files that were never sent, and contents that no row needs. Returns how many of each; safe to run twice."""
    unsent = Attachment.objects.filter(message=None, created_at__lt=timezone.now() - UNSENT_FOR).order_by("pk")
    counts = {"unsent": 0, "contents": 0, "parts": folder.remove_parts()}
    while batch := list(unsent.values_list("pk", flat=True)[:_BATCH]):
        # Conditional: one of them may be on its way into a message.
        gone = Attachment.objects.filter(pk__in=batch, message=None).delete()[0]
        counts["unsent"] += gone
        if not gone:
            break
    waiting: list[tuple[str, folder.Path]] = []
    for found in folder.old_contents():
        waiting.append(found)
        if len(waiting) >= _BATCH:
            counts["contents"] += _remove_unneeded(waiting)
            waiting = []
    counts["contents"] += _remove_unneeded(waiting)
    return counts


def _remove_unneeded(found: list[tuple[str, folder.Path]]) -> int:
    digests = [digest for digest, _ in found]
    needed = set(Attachment.objects.filter(sha256__in=digests).values_list("sha256", flat=True))
    before = timezone.now().timestamp() - folder.SPARE_SECONDS
    gone = 0
    for digest, place in found:
        # Looked at once more: somebody may have sent the same content this moment.
        if digest not in needed and folder.is_older(place, before):
            place.unlink(missing_ok=True)
            gone += 1
    return gone
