"""People take their conversations out: one as JSON, Markdown or HTML; all of them with their files as a ZIP, written by a job.

Everything is made piece by piece: a conversation is read a part at a time, an archive grows on the disk, never in memory.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.utils.html import escape

from chat.attachments import folder
from chat.attachments.names import clean_name
from chat.models import Attachment, Conversation, Membership, Message, Person, Role
from chat.portal.queries import branch_below
from chat.rendering.markdown import html_of
from ops import disk_guard
from ops.models import Job
from ops.services.jobs import JobFailed, JobHandle, job_kind, job_start

FORMAT = "switchboard.conversation"
VERSION = 1
KIND = "chat.export"
KEPT_SECONDS = 86_400.0
_PART = 200
# Seconds that an export waits for room on the disk.
_WAITS = 300.0


def export_start(*, person: Person, actor: str) -> Job:
    """Have all conversations of a person collected; one that was asked for and has not begun is returned again."""
    return job_start(
        kind=KIND,
        title=f"Export of {person.get_username()}'s conversations",
        actor=actor,
        trigger="api",
        params={"person_id": person.pk},
        once=True,
    )


def export_path(job: Job) -> Path:
    """Where a job's archive lies."""
    return _folder() / f"{job.pk}.zip"


def _folder() -> Path:
    place: Path = settings.ATTACHMENTS_DIR / "exports"
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    return place


@job_kind(KIND, label="Export of a person's conversations", resumable=True)
def export_run(job: JobHandle, *, person_id: int) -> dict[str, Any]:
    """Write the archive: for each conversation ``.json``, ``.md`` and ``.html``, and the files that were sent."""
    if not _room_for(job):
        return {}
    person = Person.objects.filter(pk=person_id, is_active=True).first()
    if person is None:
        raise JobFailed("The person does not exist any more.")
    ids = list(Membership.objects.filter(person=person, removed_at=None).order_by("pk").values_list("pk", flat=True))
    fresh = _folder() / f"{job.job.pk}.{secrets.token_hex(4)}.part"
    try:
        with os.fdopen(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b") as target:
            with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
                for number, pk in enumerate(ids):
                    if job.should_stop():
                        return {}
                    membership = Membership.objects.select_related("conversation__agent").filter(pk=pk).first()
                    if membership is not None:
                        _add(archive, membership.conversation)
                    job.progress(number + 1, len(ids))
            target.flush()
            os.fsync(target.fileno())
        os.replace(fresh, export_path(job.job))
    except OSError as error:
        if error.errno in (28, 122):
            raise JobFailed("There is no room for the archive on the server. Tell an operator.") from error
        raise
    finally:
        with suppress(FileNotFoundError):
            fresh.unlink()
    return {"conversations": len(ids), "size": export_path(job.job).stat().st_size}


def _room_for(job: JobHandle) -> bool:
    """Wait a while for room on the disk. False: somebody cancelled it meanwhile. Raises ``JobFailed`` when none comes."""
    until = time.monotonic() + _WAITS
    while disk_guard.may("export", folder=settings.ATTACHMENTS_DIR):
        if job.should_stop():
            return False
        if time.monotonic() > until:
            raise JobFailed(
                "There is too little room for an archive on the server. Tell an operator, and try again later."
            )
        job.progress(0, 0, "It waits for room on the server")
        time.sleep(2.0)
    return True


def _add(archive: zipfile.ZipFile, conversation: Conversation) -> None:
    base = f"{conversation.pk:08d} {clean_name(conversation.title or 'Conversation')[:80]}".rstrip(" .")
    for suffix, written in (
        ("json", json_pieces(conversation)),
        ("md", markdown_pieces(conversation)),
        ("html", html_pieces(conversation)),
    ):
        with archive.open(f"{base}.{suffix}", "w") as target:
            for piece in written:
                target.write(piece.encode())
    for row in Attachment.objects.filter(message__conversation=conversation).iterator(chunk_size=_PART):
        with suppress(FileNotFoundError), folder.open_content(row.path) as content:
            # Pictures and archives are packed already.
            info = zipfile.ZipInfo(f"files/{row.pk}/{row.name}", time.gmtime(row.created_at.timestamp())[:6])
            with archive.open(info, "w") as target:
                shutil.copyfileobj(content, target, folder.CHUNK)


def prune_exports() -> int:
    """Remove archives after a day, and what is left of those that were cut off. Returns how many."""
    before, gone = time.time() - KEPT_SECONDS, 0
    for place in [*_folder().glob("*.zip"), *_folder().glob("*.part")]:
        if folder.is_older(place, before):
            place.unlink(missing_ok=True)
            gone += 1
    return gone


def json_pieces(conversation: Conversation) -> Iterator[str]:
    """Complete: all branches, tools, reasoning, references to files. ``chat.services.imports`` reads it back."""
    agent = conversation.agent
    head = {
        "format": FORMAT,
        "version": VERSION,
        "id": conversation.pk,
        "title": conversation.title,
        "titled": conversation.titled,
        "agent": {"name": agent.name, "external_id": agent.external_id} if agent is not None else None,
        "head": conversation.head_id,
        "created_at": conversation.created_at,
    }
    yield _json(head)[:-1] + ', "messages": [\n'
    first = True
    for row in _all(conversation):
        yield ("" if first else ",\n") + _json(_message(row))
        first = False
    yield "\n]}\n"


def _all(conversation: Conversation) -> Iterator[Message]:
    """Every message in its order, a part at a time."""
    after = 0
    while True:
        rows = list(
            Message.objects.filter(conversation=conversation, seq__gt=after)
            .select_related("sender", "answer_of")
            .prefetch_related("attachments")
            .order_by("seq")[:_PART]
        )
        if not rows:
            return
        yield from rows
        after = rows[-1].seq


def _message(row: Message) -> dict[str, Any]:
    turn = getattr(row, "answer_of", None)
    return {
        "id": row.pk,
        "seq": row.seq,
        "parent": row.parent_id,
        "in_reply_to": row.in_reply_to_id,
        "role": row.role,
        "state": row.state,
        "sender": {"kind": row.sender.kind, "name": row.sender.name},
        "text": row.text,
        "parts": row.parts,
        "attachments": [
            {"id": str(one.pk), "name": one.name, "media_type": one.media_type, "size": one.size, "sha256": one.sha256}
            for one in row.attachments.all()
        ],
        "tokens": [turn.input_tokens, turn.output_tokens] if turn is not None else None,
        "said_at": row.said_at or row.received_at,
        "stored_at": row.stored_at,
    }


def _json(value: Any) -> str:
    return json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False)


def _shown(conversation: Conversation) -> list[Message]:
    through = conversation.next_seq
    return branch_below(conversation.head_id, through=through, before=None, limit=None)[0]


def markdown_pieces(conversation: Conversation) -> Iterator[str]:
    """The branch that is shown, to be read."""
    yield f"# {_line(conversation.title or 'Conversation')}\n\n"
    if conversation.agent is not None:
        yield f"With {_line(conversation.agent.name)}, begun {conversation.created_at:%Y-%m-%d %H:%M} UTC.\n"
    for row in _shown(conversation):
        said = row.said_at or row.received_at
        yield f"\n---\n\n**{_line(row.sender.name or row.sender.external_id)}** · {said:%Y-%m-%d %H:%M} UTC\n\n{row.text}\n"
        for file in row.attachments.all():
            yield f"\n- {_line(file.name)} ({file.media_type}, {file.size} bytes)\n"


def _line(text: str) -> str:
    return " ".join(text.split())


_STYLE = """
:root { color-scheme: light dark; }
body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.6 system-ui, sans-serif; overflow-wrap: anywhere; }
article { margin: 1.5rem 0; padding-left: 1rem; border-left: 3px solid #8888; }
article.assistant { border-left-color: #2f6fde; }
header { color: #777; font-size: .9rem; } header strong { color: CanvasText; }
.plain { white-space: pre-wrap; } pre { overflow-x: auto; padding: .75rem; background: #8882; } table { border-collapse: collapse; }
td, th { padding: .3rem .6rem; border: 1px solid #8886; }
"""


def html_pieces(conversation: Conversation) -> Iterator[str]:
    """The branch that is shown, as one file that needs no other and runs nothing."""
    title = escape(conversation.title or "Conversation")
    yield (
        '<!DOCTYPE html>\n<html><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{_STYLE}</style></head><body>\n<h1>{title}</h1>\n"
    )
    for row in _shown(conversation):
        said = row.said_at or row.received_at
        body = html_of(row.text) if row.role != Role.USER else f'<div class="plain">{escape(row.text)}</div>'
        files = "".join(f"<li>{escape(file.name)}</li>" for file in row.attachments.all())
        yield (
            f'<article class="{escape(row.role)}"><header><strong>{escape(row.sender.name or row.sender.external_id)}</strong> '
            f"<time>{said:%Y-%m-%d %H:%M} UTC</time></header>{body}{f'<ul>{files}</ul>' if files else ''}</article>\n"
        )
    yield "</body></html>\n"
