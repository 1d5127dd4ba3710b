"""People bring conversations in: what was exported here, and the exports of ChatGPT and Open WebUI. Branches are kept.

The same file twice changes nothing: what was brought in is remembered (``ImportedRow``). Files that were sent along are not brought in.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO

from django.db import transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from agents.matrix.markdown import clean_text
from agents.models import Agent
from chat.access.grants import agents_for
from chat.models import Conversation, ImportedRow, Link, LinkKind, Membership, Message, Person, Role
from chat.models.conversation import ParticipantKind
from chat.services.conversations import participant
from chat.services.exports import FORMAT
from chat.services.portal import clean_title
from chat.services.tree import title_of
from ops.services.audit import record
from ops.words import counted

SYSTEM = "person_export"
MOST_CONVERSATIONS = 10_000
MOST_MESSAGES = 20_000
# A member of an archive that unpacks to more is left out.
LARGEST_MEMBER = 100 * 1024 * 1024
_ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT}
_PARTS = ("reasoning", "text", "tool_call", "tool_result")


class CannotImport(Exception):
    """Nothing of the file was taken; ``sentence`` says why."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


@dataclass(slots=True)
class Said:
    """One message of a foreign conversation. ``parent`` is the key of the one before it."""

    key: str
    parent: str | None
    role: str
    text: str
    at: datetime
    parts: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Talk:
    """A foreign conversation. ``messages``: each behind its parent."""

    system: str
    key: str
    title: str
    agent: str
    at: datetime
    messages: list[Said]
    head: str | None


@dataclass(slots=True)
class Report:
    """``conversations`` were brought in, ``repeated`` were here already; ``findings`` are sentences about what was left out."""

    conversations: int = 0
    messages: int = 0
    repeated: int = 0
    findings: list[str] = field(default_factory=list)


def import_file(*, person: Person, file: BinaryIO, actor: str) -> Report:
    """Bring in a JSON file or a ZIP of such. Each conversation is one transaction. Raises ``CannotImport``."""
    report = Report()
    seen = 0
    for name, document in _documents(file, report):
        talks = _talks(document)
        if talks is None:
            if name.endswith(".json") or not name:
                report.findings.append(f"{name or 'The file'} has no conversations in a form that is known here.")
            continue
        for talk in talks:
            seen += 1
            if seen > MOST_CONVERSATIONS:
                report.findings.append(f"Only the first {MOST_CONVERSATIONS} conversations were looked at.")
                return report
            _take(person, talk, report, actor)
    if not seen:
        raise CannotImport(
            "There is no conversation in this file. What is taken: JSON or ZIP exported here, ChatGPT's conversations.json, Open WebUI's chats."
        )
    return report


def _documents(file: BinaryIO, report: Report) -> Iterator[tuple[str, Any]]:
    file.seek(0)
    if not zipfile.is_zipfile(file):
        file.seek(0)
        data = file.read(LARGEST_MEMBER + 1)
        if len(data) > LARGEST_MEMBER:
            raise CannotImport(
                f"The file is larger than {LARGEST_MEMBER // 1024 // 1024} MB. Split it, or send its parts in a ZIP."
            )
        yield "", _parse(data, "The file")
        return
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if not info.filename.endswith(".json"):
                continue
            if info.file_size > LARGEST_MEMBER:
                report.findings.append(f"{info.filename} is too large and was left out.")
                continue
            try:
                with archive.open(info) as member:
                    # What it says of its size may be a lie.
                    data = member.read(LARGEST_MEMBER + 1)
                if len(data) > LARGEST_MEMBER:
                    report.findings.append(f"{info.filename} is too large and was left out.")
                    continue
                document = _parse(data, info.filename)
            except (CannotImport, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError):
                report.findings.append(f"{info.filename} cannot be read and was left out.")
                continue
            yield info.filename, document


def _parse(data: bytes, what: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise CannotImport(f"{what} is neither JSON nor a ZIP of such.") from None


def _talks(document: Any) -> list[Talk] | None:
    """The conversations of a document of a known shape; ``None`` for any other."""
    if isinstance(document, dict) and document.get("format") == FORMAT:
        return [_own(document)]
    rows = document if isinstance(document, list) else [document]
    talks = []
    for row in rows[: MOST_CONVERSATIONS + 1]:
        if not isinstance(row, dict):
            continue
        if isinstance(row.get("mapping"), dict):
            talks.append(_chatgpt(row))
        elif isinstance(row.get("chat"), dict) and isinstance(row["chat"].get("history"), dict):
            talks.append(_open_webui(row))
    return talks or None


def _own(row: dict[str, Any]) -> Talk:
    agent = row.get("agent")
    said = []
    for one in _dicts(row.get("messages")):
        if one.get("role") in _ROLES and one.get("state") != "redacted":
            parts = [part for part in _dicts(one.get("parts")) if part.get("type") in _PARTS]
            said.append(
                _said(one.get("id"), one.get("parent"), one["role"], one.get("text"), _time(one.get("said_at")), parts)
            )
    return Talk(
        "switchboard",
        f"{row.get('id')}:{row.get('created_at')}",
        _text(row.get("title")),
        _text(agent.get("name")) if isinstance(agent, dict) else "",
        _time(row.get("created_at")),
        _ordered(said),
        _key(row.get("head")),
    )


def _chatgpt(row: dict[str, Any]) -> Talk:
    """``mapping``: a tree of nodes, of which some hold no message, or one of the system."""
    nodes = {str(key): node for key, node in row["mapping"].items() if isinstance(node, dict)}
    said, kept = [], set()
    for key, node in nodes.items():
        message = node.get("message")
        if not isinstance(message, dict):
            continue
        author, content = message.get("author"), message.get("content")
        role = author.get("role") if isinstance(author, dict) else None
        pieces = content.get("parts") if isinstance(content, dict) else None
        text = "\n\n".join(one for one in pieces or [] if isinstance(one, str)).strip()
        if role in _ROLES and text:
            kept.add(key)
            said.append(_said(key, node.get("parent"), role, text, _time(message.get("create_time")), []))
    for one in said:
        one.parent = _above(one.parent, kept, {key: node.get("parent") for key, node in nodes.items()})
    head = _above(_key(row.get("current_node")), kept, {key: node.get("parent") for key, node in nodes.items()})
    key = _text(row.get("conversation_id") or row.get("id")) or _digest(row)
    return Talk("chatgpt", key, _text(row.get("title")), "", _time(row.get("create_time")), _ordered(said), head)


def _open_webui(row: dict[str, Any]) -> Talk:
    """``chat.history``: ``messages`` by id with ``parentId``, and ``currentId``."""
    chat = row["chat"]
    history = chat["history"]
    found = history.get("messages")
    nodes = {str(key): node for key, node in found.items() if isinstance(node, dict)} if isinstance(found, dict) else {}
    said = []
    for key, node in nodes.items():
        if node.get("role") in _ROLES and _text(node.get("content")).strip():
            said.append(
                _said(key, node.get("parentId"), node["role"], node["content"], _time(node.get("timestamp")), [])
            )
    parents = {key: node.get("parentId") for key, node in nodes.items()}
    kept = {one.key for one in said}
    for one in said:
        one.parent = _above(one.parent, kept, parents)
    models = chat.get("models")
    agent = _text(models[0]) if isinstance(models, list) and models else ""
    head = _above(_key(history.get("currentId")), kept, parents)
    key = _text(row.get("id")) or _digest(row)
    title = _text(row.get("title") or chat.get("title"))
    return Talk(
        "open_webui", key, title, agent, _time(row.get("created_at") or chat.get("timestamp")), _ordered(said), head
    )


def _above(key: Any, kept: set[str], parents: dict[str, Any]) -> str | None:
    """The nearest message that is kept, from a node up."""
    steps = 0
    found = _key(key)
    while found is not None and found not in kept and steps <= len(parents):
        found, steps = _key(parents.get(found)), steps + 1
    return found if found in kept else None


def _ordered(said: list[Said]) -> list[Said]:
    """Each behind its parent, otherwise by time; what hangs on nothing, or on itself, begins a branch."""
    by_key = {one.key: one for one in said}
    children: dict[str | None, list[Said]] = {}
    for one in by_key.values():
        children.setdefault(one.parent if one.parent in by_key and one.parent != one.key else None, []).append(one)
    for group in children.values():
        group.sort(key=lambda one: one.at)
    ordered: list[Said] = []
    done: set[str] = set()
    waiting = list(reversed(children.get(None, [])))
    while waiting or len(done) < len(by_key):
        if not waiting:
            # A ring: cut where it is oldest.
            first = min((one for one in by_key.values() if one.key not in done), key=lambda one: one.at)
            first.parent = None
            waiting = [first]
        one = waiting.pop()
        if one.key in done:
            continue
        done.add(one.key)
        if one.parent not in done:
            one.parent = None
        ordered.append(one)
        waiting.extend(reversed(children.get(one.key, [])))
    return ordered


def _said(key: Any, parent: Any, role: str, text: Any, at: datetime, parts: list[dict[str, Any]]) -> Said:
    return Said(_key(key) or "", _key(parent), role, clean_text(_text(text)), at, parts)


def _key(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)[:200]


def _text(value: Any) -> str:
    return value.replace("\x00", "") if isinstance(value, str) else ""


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _time(value: Any) -> datetime:
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            seconds = value / 1000 if value > 1e11 else value
            return datetime.fromtimestamp(seconds, UTC)
        found = parse_datetime(value) if isinstance(value, str) else None
    except (ValueError, OverflowError, OSError):
        found = None
    if found is None:
        return timezone.now()
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _take(person: Person, talk: Talk, report: Report, actor: str) -> None:
    name = talk.title or "A conversation without a title"
    if not talk.messages:
        report.findings.append(f"{name}: nothing was said in it; it was left out.")
        return
    if len(talk.messages) > MOST_MESSAGES:
        report.findings.append(f"{name}: it has more than {counted(MOST_MESSAGES, 'message')} and was left out.")
        return
    key = hashlib.sha256(f"{talk.system}\n{talk.key}".encode()).hexdigest()
    with transaction.atomic():
        Person.objects.select_for_update().get(pk=person.pk)
        known = ImportedRow.objects.filter(system=SYSTEM, source=str(person.pk), kind="conversation", key=key).first()
        if known is not None:
            if Membership.objects.filter(conversation_id=int(known.target_id), person=person).exists():
                report.repeated += 1
                return
            # It was deleted since: whoever brings it in again wants it back.
            known.delete()
        conversation = _store(person, talk)
        ImportedRow.objects.create(
            system=SYSTEM,
            source=str(person.pk),
            kind="conversation",
            key=key,
            target="chat.Conversation",
            target_id=str(conversation.pk),
        )
        record(actor=actor, action="conversation.imported", target=conversation, after={"messages": len(talk.messages)})
    report.conversations += 1
    report.messages += len(talk.messages)
    if conversation.agent is None:
        report.findings.append(f"{name}: its agent is not here; it can be read, and nobody answers in it.")


def _store(person: Person, talk: Talk) -> Conversation:
    agent: Agent | None = agents_for(person).filter(name=talk.agent).order_by("pk").first() if talk.agent else None
    last = max(one.at for one in talk.messages)
    title = clean_title(talk.title)
    conversation = Conversation.objects.create(
        title=title or title_of(talk.messages[0].text),
        titled=bool(title),
        agent=agent,
        portal=True,
        next_seq=len(talk.messages) + 1,
        last_message_at=min(last, timezone.now()),
    )
    Conversation.objects.filter(pk=conversation.pk).update(created_at=min(talk.at, timezone.now()))
    Link.objects.create(conversation=conversation, kind=LinkKind.PORTAL, address="import")
    Membership.objects.create(conversation=conversation, person=person, last_read_seq=len(talk.messages))
    speakers = {
        Role.USER: participant(
            conversation.pk,
            kind=ParticipantKind.PERSON,
            external_id=person.username,
            name=str(person),
            person_id=person.pk,
        ),
        Role.ASSISTANT: participant(
            conversation.pk,
            kind=ParticipantKind.AGENT,
            external_id=str(agent.pk) if agent is not None else "imported",
            name=(agent.name if agent is not None else talk.agent or "Assistant")[:255],
            agent_id=agent.pk if agent is not None else None,
        ),
    }
    now = timezone.now()
    made: dict[str, Message] = {}
    for seq, one in enumerate(talk.messages, 1):
        role = _ROLES[one.role]
        made[one.key] = Message.objects.create(
            conversation=conversation,
            seq=seq,
            sender=speakers[role],
            role=role,
            text=one.text,
            parts=one.parts,
            parent=made.get(one.parent or ""),
            transport="import",
            said_at=one.at,
            received_at=now,
            stored_at=now,
        )
    head = made.get(talk.head or "") or made[talk.messages[-1].key]
    Conversation.objects.filter(pk=conversation.pk).update(head=head)
    conversation.head = head
    return conversation
