"""Says what becomes of words when a backup is restored: what stays, what goes, and what comes back that was removed on purpose."""

from __future__ import annotations

from typing import Any

from chat.models import Message
from ops.backup.since import Since, here
from ops.backup.staging import quoted as wanted
from ops.findings import Finding
from ops.models import AuditEvent
from ops.redaction import redact_text
from ops.words import counted, verb

MESSAGE, CONVERSATION, MEMBER = "chat.Message", "chat.Conversation", "chat.Membership"
_EXAMPLES = 5
_LONGEST = 80
# What somebody removed on purpose, in the words of the audit log.
REMOVED = {
    "conversation.deleted": ("conversation was deleted", "conversations were deleted"),
    "person.deleted": ("person was deleted", "people were deleted"),
    "retention.purged": ("purge by the rules of retention", "purges by the rules of retention"),
    "reset.applied": ("reset", "resets"),
}


def note_said(since: Since) -> None:
    """How much was said since, and whether it stays: ``report["words"]``, and a sentence."""
    said = _counted(since, "kept")
    made = int(since.one("SELECT COUNT(*) FROM _talk WHERE fate = 'kept' AND NOT same"))
    nowhere = int(
        since.one(
            f"SELECT COUNT(*) FROM {here(MESSAGE)} one JOIN _talk ON _talk.id = one.conversation_id AND _talk.fate = 'kept' "
            f"WHERE NOT EXISTS (SELECT 1 FROM {here('chat.Link')} link WHERE link.conversation_id = one.conversation_id "
            "AND link.room_id IS NOT NULL)"
        )
    )
    drafts = int(
        since.one(
            f"SELECT COUNT(*) FROM {here(MEMBER)} member JOIN _talk ON _talk.id = member.conversation_id AND _talk.fate = 'kept' "
            "WHERE member.draft_at >= ?",
            (since.text,),
        )
    )
    report = since.report.setdefault("words", {})
    report |= {"kept": since.wanted, **said, "made": made, "without_room": nowhere, "drafts": drafts}
    if not said["messages"] and not drafts:
        return
    where = _examples_in_words(said["examples"])
    number = said["messages"]
    what = f"{counted(number, 'message')} in {counted(said['conversations'], 'conversation')}" if number else ""
    if drafts:
        what += f"{' and ' if number else ''}{counted(drafts, 'draft')}"
    if since.wanted:
        sentence = f"{what} from after the backup {verb(number + drafts, 'is', 'are')} kept as history{where}: nothing of it is answered or sent again."
        since.findings.append(Finding("info", "restore.words_kept", sentence, evidence=dict(report)))
        return
    sentence = f"{what} from after the backup {verb(number + drafts, 'is', 'are')} removed{where}, as was asked for. "
    sentence += "The backup that is made beforehand still holds it."
    if number > nowhere:
        sentence += f" {number - nowhere:,} of them belong to rooms: what stands there is read again."
    since.findings.append(Finding("warning", "restore.words_removed", sentence, evidence=dict(report)))


def note_lost(since: Since) -> None:
    """Conversations made since whose room, agent or people the backup does not know."""
    report = since.report.setdefault("words", {})
    rooms, gone = _counted(since, "rooms"), _counted(since, "gone")
    report |= {"in_other_rooms": rooms, "lost": gone}
    if rooms["messages"]:
        since.findings.append(
            Finding(
                "info",
                "restore.words_of_rooms",
                f"{counted(rooms['messages'], 'message')} in {counted(rooms['conversations'], 'conversation')} of rooms that the backup does not "
                f"know{_examples_in_words(rooms['examples'])}: what stands in the rooms is read from there once they are found again.",
                evidence=dict(rooms),
            )
        )
    if gone["messages"]:
        since.findings.append(
            Finding(
                "warning",
                "restore.words_lost",
                f"{counted(gone['messages'], 'message')} in {counted(gone['conversations'], 'conversation')} from after the backup "
                f"{verb(gone['messages'], 'is', 'are')} removed, since the backup does not have their agent, or none of the people who had "
                f"them{_examples_in_words(gone['examples'])}. Taking the restore back brings them back.",
                evidence=dict(gone),
            )
        )


def note_returning(since: Since, rights: dict[str, int]) -> None:
    """Messages that are not here any more and come back, and what stays taken back."""
    # Only numbers are asked for: comparing reads the rows themselves.
    since.run("CREATE TABLE _present (id INTEGER PRIMARY KEY)")
    numbers = Message.objects.using(since.alias).order_by("pk").values_list("pk").iterator(chunk_size=5000)
    since.run("BEGIN")
    since.staging.sql.executemany("INSERT INTO _present VALUES (?)", numbers)
    since.run("COMMIT")
    since.run(
        f"CREATE TABLE _back AS SELECT conversation_id AS id, COUNT(*) AS number FROM {wanted(MESSAGE)} "
        "WHERE id NOT IN (SELECT id FROM _present) AND state <> 'redacted' GROUP BY conversation_id"
    )
    messages = int(since.one("SELECT coalesce(sum(number), 0) FROM _back"))
    back: dict[str, Any] = {"messages": messages, "conversations": int(since.one("SELECT COUNT(*) FROM _back"))}
    back["examples"] = [
        {"conversation": title or f"conversation {pk}", "messages": number}
        for pk, title, number in since.staging.sql.execute(
            f"SELECT _back.id, title, number FROM _back JOIN {wanted(CONVERSATION)} one ON one.id = _back.id ORDER BY number DESC, _back.id "
            f"LIMIT {_EXAMPLES}"
        )
    ]
    on_purpose = _on_purpose(since)
    since.report.setdefault("words", {})["returning"] = back | {"on_purpose": on_purpose, "stays": rights}
    if messages:
        sentence = (
            f"{counted(messages, 'message')} in {counted(back['conversations'], 'conversation')} that {verb(messages, 'is', 'are')} not here any "
            f"more {verb(messages, 'comes', 'come')} back{_examples_in_words(back['examples'])}."
        )
        if on_purpose:
            sentence += (
                f" Since the backup there {_purpose_in_words(on_purpose)}: remove again what has to stay removed."
            )
        since.findings.append(
            Finding("warning" if on_purpose else "info", "restore.words_return", sentence, evidence=back)
        )
    if stays := [
        text
        for text in (
            rights["taken_back"] and f"{counted(rights['taken_back'], 'message')} that their senders took back",
            rights["removed"] and f"{counted(rights['removed'], 'conversation')} that people deleted",
            rights["held"] and f"{counted(rights['held'], 'legal hold')}",
        )
        if text
    ]:
        since.findings.append(
            Finding(
                "info",
                "restore.stays_taken_back",
                f"From after the backup stay as they are: {', '.join(stays)}.",
                evidence=rights,
            )
        )


def _on_purpose(since: Since) -> dict[str, int]:
    rows = AuditEvent.objects.using(since.alias).filter(at__gte=since.at, action__in=REMOVED)
    found: dict[str, int] = {}
    for action in rows.order_by().values_list("action", flat=True).iterator():
        found[action] = found.get(action, 0) + 1
    return {action: found[action] for action in REMOVED if action in found}


def _purpose_in_words(on_purpose: dict[str, int]) -> str:
    first = next(iter(on_purpose.values()))
    return f"{verb(first, 'was', 'were')} " + ", ".join(
        counted(number, *REMOVED[action]) for action, number in on_purpose.items()
    )


def _counted(since: Since, fate: str) -> dict[str, Any]:
    talk = f"{here(MESSAGE)} one JOIN _talk ON _talk.id = one.conversation_id AND _talk.fate = '{fate}'"
    examples = since.staging.sql.execute(
        f"SELECT _talk.id, place.title, NOT _talk.same, COUNT(*), (SELECT said.text FROM {here(MESSAGE)} said "
        f"WHERE said.conversation_id = _talk.id ORDER BY said.seq LIMIT 1) FROM {talk} JOIN {here(CONVERSATION)} place "
        f"ON place.id = _talk.id GROUP BY _talk.id ORDER BY COUNT(*) DESC, _talk.id LIMIT {_EXAMPLES}"
    ).fetchall()
    return {
        "messages": int(since.one(f"SELECT COUNT(*) FROM {talk}")),
        "conversations": int(since.one(f"SELECT COUNT(DISTINCT _talk.id) FROM {talk}")),
        "examples": [
            {
                "conversation": title or f"conversation {pk}",
                "messages": number,
                "made": bool(made),
                "first": redact_text(" ".join(text[: 2 * _LONGEST].split()))[:_LONGEST],
            }
            for pk, title, made, number, text in examples
        ],
    }


def _examples_in_words(examples: list[dict[str, Any]]) -> str:
    named = ", ".join(f"{one['conversation'][:_LONGEST]} ({one['messages']:,})" for one in examples[:3])
    return f" ({named}{', …' if len(examples) > 3 else ''})" if named else ""
