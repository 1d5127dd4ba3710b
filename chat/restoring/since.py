"""What was said since a backup's cut stays when that backup is restored where it was said: words, answers, files, drafts.

A room can be read again, words of the portal and of the API stand nowhere else. So messages that are here and that the backup does not know
become part of what is wanted, with their turns, deliveries, files and with the conversations that were begun since; those of rooms as
well, since only whole conversations keep their order, and reading the room again finds them known. Fences do to them what they do to
all: nothing of it is answered or sent again. What was taken back or removed by people since does not come back with the rows.
"""

from __future__ import annotations

from chat.restoring import since_report
from chat.restoring.since_rows import keep_conversations, keep_messages, keep_others, keep_work
from ops.backup.hooks import register_since
from ops.backup.since import Since, here
from ops.backup.staging import quoted as wanted

MESSAGE, CONVERSATION, LINK, MEMBER = "chat.Message", "chat.Conversation", "chat.Link", "chat.Membership"
_NEEDED = (
    MESSAGE,
    CONVERSATION,
    LINK,
    MEMBER,
    "chat.Participant",
    "chat.Turn",
    "chat.Delivery",
    "chat.Attachment",
    "chat.ClientPrefix",
    "chat.ImportedRow",
)
# Conversations in which something was said, or is about to be.
SPOKEN = (
    "SELECT conversation_id FROM chat_message WHERE stored_at >= %s "
    "UNION SELECT conversation_id FROM chat_membership WHERE draft_at >= %s"
)


def look(since: Since) -> None:
    """Decide about everything that was said since, and report it as ``since.report["words"]``."""
    if MESSAGE not in since.chosen or any(label not in since.staging.shapes for label in _NEEDED):
        return
    since.load(MESSAGE, "stored_at >= %s", [since.moment])
    # The same number and the same moment: the backup has it.
    since.run(
        f"DELETE FROM {here(MESSAGE)} WHERE EXISTS (SELECT 1 FROM {wanted(MESSAGE)} there "
        f"WHERE there.id = {here(MESSAGE)}.id AND there.stored_at = {here(MESSAGE)}.stored_at)"
    )
    since.load(CONVERSATION, f"id IN ({SPOKEN}) OR hold <> ''", [since.moment] * 2)
    since.load(LINK, f"conversation_id IN ({SPOKEN})", [since.moment] * 2)
    since.load(MEMBER, f"removed_at IS NOT NULL OR conversation_id IN ({SPOKEN})", [since.moment] * 2)
    _sort_out(since)
    since_report.note_lost(since)
    rights = _keep_rights(since)
    since_report.note_returning(since, rights)
    since_report.note_said(since)
    if since.wanted and since.one("SELECT EXISTS (SELECT 1 FROM _talk WHERE fate = 'kept')"):
        keep_conversations(since, SPOKEN)
        keep_messages(since)
        keep_work(since)
        keep_others(since)


def _sort_out(since: Since) -> None:
    """Fills ``_talk`` (id, same, fate, shift): what becomes of the conversations in which something was said. ``same``: the backup knows it.

    ``fate``: ``kept``; ``rooms``, of which the room tells, once it is found again; ``gone``, for want of its agent or of its people;
    ``still`` when nothing was said.
    """
    since.run("CREATE TABLE _talk (id INTEGER PRIMARY KEY, same INTEGER, fate TEXT, shift INTEGER DEFAULT 0)")
    since.run(
        f"INSERT INTO _talk (id, same, fate) SELECT one.id, EXISTS (SELECT 1 FROM {wanted(CONVERSATION)} there "
        f"WHERE there.id = one.id AND there.created_at = one.created_at), 'kept' FROM {here(CONVERSATION)} one"
    )
    since.run(f"CREATE INDEX _since_talk ON {here(MESSAGE)} (conversation_id, seq)")
    since.run(f"CREATE INDEX _since_members ON {here(MEMBER)} (conversation_id)")
    since.run(f"CREATE INDEX _since_links ON {here(LINK)} (conversation_id)")
    since.run(f"CREATE INDEX _links_rooms ON {wanted(LINK)} (room_id)")
    room = since.there("agents.Room", "link.room_id")
    elsewhere = (
        f"SELECT 1 FROM {wanted(LINK)} theirs WHERE theirs.room_id = {room} "
        "AND NOT (_talk.same AND theirs.conversation_id = _talk.id)"
    )
    since.run(
        f"UPDATE _talk SET fate = 'rooms' WHERE EXISTS (SELECT 1 FROM {here(LINK)} link WHERE link.conversation_id = _talk.id "
        f"AND link.room_id IS NOT NULL AND ({room} IS NULL OR EXISTS ({elsewhere})))"
    )
    agent, person = since.there("agents.Agent", "one.agent_id"), since.there("chat.Person", "member.person_id")
    members = f"SELECT 1 FROM {here(MEMBER)} member WHERE member.conversation_id = _talk.id"
    since.run(
        "UPDATE _talk SET fate = 'gone' WHERE NOT same AND fate = 'kept' AND ("
        f"EXISTS (SELECT 1 FROM {here(CONVERSATION)} one WHERE one.id = _talk.id AND one.agent_id IS NOT NULL AND {agent} IS NULL) "
        f"OR (EXISTS ({members}) AND NOT EXISTS ({members} AND {person} IS NOT NULL)))"
    )
    _drop_known(since)
    draft = f"{members} AND member.draft_at >= ?"
    since.run(
        f"UPDATE _talk SET fate = 'still' WHERE NOT EXISTS (SELECT 1 FROM {here(MESSAGE)} one WHERE one.conversation_id = _talk.id) "
        f"AND NOT EXISTS ({draft})",
        (since.text,),
    )


def _drop_known(since: Since) -> None:
    """What came in again from a room since, after a former restore, and stands in the backup under another number."""
    if not since.one(f"SELECT EXISTS (SELECT 1 FROM {here(MESSAGE)} WHERE external_id <> '')"):
        return
    since.run(f"CREATE INDEX _message_key ON {wanted(MESSAGE)} (transport, external_id)")
    known = (
        f"EXISTS (SELECT 1 FROM {wanted(MESSAGE)} there WHERE there.transport = {here(MESSAGE)}.transport "
        f"AND there.external_id = {here(MESSAGE)}.external_id)"
    )
    # Named after its turn, whose number means another turn there.
    since.run(f"UPDATE {here(MESSAGE)} SET external_id = '' WHERE transport = 'turn' AND external_id <> '' AND {known}")
    since.run(f"DELETE FROM {here(MESSAGE)} WHERE external_id <> '' AND {known}")
    if not since.one(f"SELECT EXISTS (SELECT 1 FROM {here(MESSAGE)} WHERE transport = 'matrix')"):
        return
    since.run("CREATE TABLE _shown (event_id TEXT PRIMARY KEY) WITHOUT ROWID")
    since.run(
        "INSERT OR IGNORE INTO _shown SELECT json_extract(event.value, '$.event_id') "
        f"FROM {wanted('chat.Delivery')} one, json_each(one.shown) event WHERE json_extract(event.value, '$.event_id') IS NOT NULL"
    )
    since.run(
        f"DELETE FROM {here(MESSAGE)} WHERE transport = 'matrix' AND external_id IN (SELECT event_id FROM _shown)"
    )


def _keep_rights(since: Since) -> dict[str, int]:
    """What people took back or put away since stays so, and what is held is held, whatever becomes of the rest. Returns how many of each."""
    table = wanted(MEMBER)
    found = {}
    same = f"FROM {here(MEMBER)} one WHERE one.id = {table}.id AND one.created_at = {table}.created_at AND one.removed_at IS NOT NULL"
    found["removed"] = since.run(
        f"UPDATE {table} SET removed_at = (SELECT one.removed_at {same}) WHERE removed_at IS NULL AND EXISTS (SELECT 1 {same})"
    )
    table = wanted(CONVERSATION)
    held = f"FROM {here(CONVERSATION)} one WHERE one.id = {table}.id AND one.created_at = {table}.created_at AND one.hold <> ''"
    found["held"] = since.run(
        f"UPDATE {table} SET hold = (SELECT one.hold {held}) WHERE hold = '' AND EXISTS (SELECT 1 {held})"
    )
    found["taken_back"] = _keep_changed(since)
    return found


def _keep_changed(since: Since) -> int:
    """Messages that were taken back since stay empty, without their files; those that were changed since read as they do now."""
    changed, there = '"changed.chat.Message"', wanted(MESSAGE)
    since.load(MESSAGE, "state = 'redacted' OR CAST(parts AS text) LIKE %s", ['%"edit"%'], table=changed)
    since.run(
        f"DELETE FROM {changed} WHERE NOT EXISTS (SELECT 1 FROM {there} there WHERE there.id = {changed}.id "
        f"AND there.stored_at = {changed}.stored_at AND there.state <> 'redacted')"
    )
    since.run(
        f"DELETE FROM {changed} WHERE state <> 'redacted' AND NOT (? AND EXISTS (SELECT 1 FROM json_each({changed}.parts) part "
        "WHERE json_extract(part.value, '$.type') = 'edit' AND replace(json_extract(part.value, '$.at'), 'T', ' ') >= ?))",
        (since.wanted, since.text[:-1]),
    )
    columns = "state", "text", "parts", "revision"
    values = ", ".join(f"{name} = (SELECT one.{name} FROM {changed} one WHERE one.id = {there}.id)" for name in columns)
    since.run(f"UPDATE {there} SET {values} WHERE id IN (SELECT id FROM {changed})")
    back = f"SELECT id FROM {changed} WHERE state = 'redacted'"
    since.run(f"DELETE FROM {wanted('chat.Attachment')} WHERE message_id IN ({back})")
    return int(since.one(f"SELECT COUNT(*) FROM ({back})"))


register_since("words", look)
