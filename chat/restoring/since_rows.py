"""Adds what was said since the cut to what a restore wants: conversations and who speaks in them, messages, their work, what belongs to them.

Statements in the staging: ``"chat.X"`` is what is wanted, ``"since.chat.X"`` what is here; ``_talk`` says what becomes of a conversation
(``chat.restoring.since``).
"""

from __future__ import annotations

from chat.models import OPEN_TURN_STATES, DeliveryState
from ops.backup.since import Since, here
from ops.backup.staging import quoted as wanted

MESSAGE, CONVERSATION, LINK, MEMBER = "chat.Message", "chat.Conversation", "chat.Link", "chat.Membership"
PARTICIPANT, TURN, DELIVERY, FILE = "chat.Participant", "chat.Turn", "chat.Delivery", "chat.Attachment"
PREFIX, IMPORTED = "chat.ClientPrefix", "chat.ImportedRow"
KEPT = "SELECT id FROM _talk WHERE fate = 'kept'"
OPEN = "({})".format(", ".join(f"'{state}'" for state in OPEN_TURN_STATES))
OPEN_DELIVERY = f"('{DeliveryState.STREAMING}', '{DeliveryState.QUEUED}', '{DeliveryState.RUNNING}')"


def keep_conversations(since: Since, spoken: str) -> None:
    """Conversations that were begun since, and in all that stay who speaks and where they can be reached. ``spoken``: a condition of the
    database's own for conversations in which something was said."""
    run = since.run
    run(f"CREATE TABLE _was AS SELECT * FROM {here(CONVERSATION)} WHERE id IN ({KEPT} AND same)")
    run(f"DELETE FROM {here(CONVERSATION)} WHERE id NOT IN ({KEPT} AND NOT same)")
    since.add(CONVERSATION, later=("head_id",))
    since.load(PARTICIPANT, f"conversation_id IN ({spoken})", [since.moment] * 2)
    one, there = here(PARTICIPANT), wanted(PARTICIPANT)
    run(f"DELETE FROM {one} WHERE conversation_id NOT IN ({KEPT})")
    run(
        f"DELETE FROM {one} WHERE conversation_id IN ({KEPT} AND same) AND id NOT IN (SELECT sender_id FROM {here(MESSAGE)})"
    )
    run(f"CREATE INDEX _participants ON {there} (conversation_id, kind, external_id)")
    place = since.there(CONVERSATION, f"{one}.conversation_id")
    same = (
        f"FROM {there} there WHERE there.conversation_id = {place} AND there.kind = {one}.kind "
        f"AND there.external_id = {one}.external_id"
    )
    # An agent that keeps history goes on in the conversation of its own that it was in.
    run(
        f"UPDATE {there} SET backend_ref = one.backend_ref FROM {one} one WHERE one.id = {there}.id "
        f"AND one.conversation_id = {there}.conversation_id AND one.external_id = {there}.external_id AND {there}.backend_ref = ''"
    )
    run(
        f"INSERT OR REPLACE INTO _moved SELECT '{PARTICIPANT}', id, (SELECT there.id {same}) FROM {one} "
        f"WHERE EXISTS (SELECT 1 {same} AND there.id <> {one}.id)"
    )
    run(f"DELETE FROM {one} WHERE EXISTS (SELECT 1 {same})")
    since.add(PARTICIPANT)
    one, there = here(LINK), wanted(LINK)
    room = since.there("agents.Room", f"{one}.room_id")
    run(f"DELETE FROM {one} WHERE conversation_id NOT IN ({KEPT})")
    run(
        f"DELETE FROM {one} WHERE EXISTS (SELECT 1 FROM {there} there WHERE there.room_id = {room} "
        f"OR (there.id = {one}.id AND there.conversation_id = {one}.conversation_id))"
    )
    since.add(LINK)


def keep_messages(since: Since) -> None:
    """What was said, in its order. Numbers that the backup's messages have in a conversation are passed over."""
    run, one, there = since.run, here(MESSAGE), wanted(MESSAGE)
    run(f"DELETE FROM {one} WHERE conversation_id NOT IN ({KEPT})")
    run(f"CREATE INDEX _message_place ON {there} (conversation_id, seq)")
    first = f"(SELECT min(one.seq) FROM {one} one WHERE one.conversation_id = _talk.id)"
    free = (
        f"max((SELECT next_seq FROM {wanted(CONVERSATION)} there WHERE there.id = _talk.id), "
        f"coalesce((SELECT max(there.seq) + 1 FROM {there} there WHERE there.conversation_id = _talk.id), 1))"
    )
    run(f"UPDATE _talk SET shift = max(0, {free} - coalesce({first}, {free})) WHERE fate = 'kept' AND same")
    run(f"UPDATE {one} SET seq = seq + (SELECT shift FROM _talk WHERE _talk.id = {one}.conversation_id)")
    since.add(MESSAGE, later=("parent_id", "in_reply_to_id"))
    for column in ("parent_id", "in_reply_to_id"):
        since.refer(MESSAGE, column, "target.conversation_id = one.conversation_id")
    since.refer(CONVERSATION, "head_id", "target.conversation_id = one.id")
    # What shows the conversation's end is as it is now.
    table = wanted(CONVERSATION)
    head = since.there(MESSAGE, "was.head_id")
    run(
        f"UPDATE {table} SET next_seq = max({table}.next_seq, was.next_seq + _talk.shift), "
        f"last_message_at = max(coalesce({table}.last_message_at, ''), coalesce(was.last_message_at, '')), "
        f"revision = max({table}.revision, was.revision), head_id = coalesce((SELECT target.id FROM {there} target "
        f"WHERE target.id = {head} AND target.conversation_id = {table}.id), {table}.head_id) "
        f"FROM _was was JOIN _talk ON _talk.id = was.id WHERE was.id = {table}.id"
    )
    run(f"UPDATE {table} SET last_message_at = NULL WHERE last_message_at = ''")


def keep_work(since: Since) -> None:
    """Answers and deliveries since. What the backup knows as open is now what became of it; what is open still is ended by the fence."""
    run, one, there = since.run, here(TURN), wanted(TURN)
    since.load(TURN, f"created_at >= %s OR finished_at >= %s OR state IN {OPEN}", [since.moment] * 2)
    # One lane has one running turn, and the backup may know another: none of them goes on.
    run(f"UPDATE {one} SET state = 'queued' WHERE state = 'running'")
    answered = f"SELECT 1 FROM {here(MESSAGE)} reply WHERE reply.id = {one}.reply_id"
    _take_over(
        since,
        TURN,
        f"(there.state IN {OPEN} OR (there.reply_id IS NULL AND EXISTS ({answered}))) "
        f"AND {one}.conversation_id NOT IN (SELECT id FROM _talk WHERE fate IN ('rooms', 'gone'))",
        ("agent_id", "message_id", "conversation_id"),
    )
    run(f"CREATE INDEX _turn_place ON {there} (message_id, agent_id)")
    message, agent = since.there(MESSAGE, f"{one}.message_id"), since.there("agents.Agent", f"{one}.agent_id")
    run(
        f"DELETE FROM {one} WHERE EXISTS (SELECT 1 FROM {there} there WHERE there.message_id = {message} AND there.agent_id = {agent} "
        f"AND there.variant = {one}.variant)"
    )
    since.add(TURN)
    run(
        f"UPDATE {there} SET seq = (SELECT asked.seq FROM {wanted(MESSAGE)} asked WHERE asked.id = {there}.message_id) "
        f"WHERE id IN (SELECT id FROM {one})"
    )
    one, there = here(DELIVERY), wanted(DELIVERY)
    since.load(DELIVERY, f"created_at >= %s OR state IN {OPEN_DELIVERY}", [since.moment])
    run(f"UPDATE {one} SET state = 'queued' WHERE state = 'running'")
    _take_over(since, DELIVERY, f"there.state IN {OPEN_DELIVERY}", ("turn_id", "room_id"))
    run(f"CREATE INDEX _delivery_place ON {there} (turn_id, lane)")
    room, turn = since.there("agents.Room", f"{one}.room_id"), since.there(TURN, f"{one}.turn_id")
    message = since.there(MESSAGE, f"{one}.message_id")
    run(
        f"DELETE FROM {one} WHERE (room_id IS NOT NULL AND {room} IS NULL) OR (turn_id IS NOT NULL AND {turn} IS NULL) "
        f"OR (message_id IS NOT NULL AND {message} IS NULL) OR (speak_as = 'agent' AND NOT notice AND turn_id IS NOT NULL "
        f"AND EXISTS (SELECT 1 FROM {there} there WHERE there.turn_id = {turn} AND there.lane = {one}.lane "
        "AND there.speak_as = 'agent' AND NOT there.notice))"
    )
    since.add(DELIVERY)


def _take_over(since: Since, label: str, when: str, stays: tuple[str, ...]) -> None:
    """Rows that both know: where the condition ``when`` (about ``there``, and the present row) holds, the wanted one becomes the present one,
    but for the columns ``stays``."""
    one, table = here(label), wanted(label)
    shape = since.staging.shapes[label]
    since.run(f"CREATE TABLE {quoted_both(label)} (id INTEGER PRIMARY KEY)")
    same = f"there.id = {one}.id AND there.created_at = {one}.created_at"
    since.run(f"INSERT INTO {quoted_both(label)} SELECT {one}.id FROM {one} JOIN {table} there ON {same} WHERE {when}")
    values = []
    for column in shape.columns:
        if column.name != shape.pk and column.name not in stays:
            name = wanted(column.name)
            value = since.there(column.ref, f"one.{name}") if column.ref else f"one.{name}"
            values.append(f"{name} = (SELECT {value} FROM {one} one WHERE one.id = {table}.id)")
    since.run(f"UPDATE {table} SET {', '.join(values)} WHERE id IN (SELECT id FROM {quoted_both(label)})")
    since.run(f"DELETE FROM {one} WHERE EXISTS (SELECT 1 FROM {table} there WHERE {same})")


def quoted_both(label: str) -> str:
    """The staging's table of numbers of rows that were taken over."""
    return wanted(f"both.{label}")


def keep_others(since: Since) -> None:
    """Who has the conversations in the portal, with drafts and how far they have read; files; where programs go on; what imports made."""
    run, one, there = since.run, here(MEMBER), wanted(MEMBER)
    same = (
        f"one.id = {there}.id AND one.created_at = {there}.created_at AND one.conversation_id = {there}.conversation_id"
    )
    run(
        f"UPDATE {there} SET draft = one.draft, draft_at = one.draft_at, last_read_seq = max({there}.last_read_seq, "
        f"min(one.last_read_seq + _talk.shift, (SELECT next_seq FROM {wanted(CONVERSATION)} place WHERE place.id = _talk.id) - 1)) "
        f"FROM {one} one JOIN _talk ON _talk.id = one.conversation_id AND _talk.fate = 'kept' WHERE {same}"
    )
    run(f"CREATE INDEX _members ON {there} (conversation_id)")
    place, person = since.there(CONVERSATION, f"{one}.conversation_id"), since.there("chat.Person", f"{one}.person_id")
    run(
        f"DELETE FROM {one} WHERE conversation_id NOT IN ({KEPT}) OR EXISTS (SELECT 1 FROM {there} there "
        f"WHERE there.conversation_id = {place} AND there.person_id = {person})"
    )
    since.add(MEMBER)
    one, there = here(FILE), wanted(FILE)
    since.load(
        FILE,
        "created_at >= %s OR message_id IN (SELECT id FROM chat_message WHERE stored_at >= %s)",
        [since.moment] * 2,
    )
    message = since.there(MESSAGE, f"{one}.message_id")
    # Uploaded before the cut, sent after it.
    run(
        f"UPDATE {there} SET message_id = {since.there(MESSAGE, 'one.message_id')}, conversation_id = "
        f"{since.there(CONVERSATION, 'one.conversation_id')} FROM {one} one WHERE one.id = {there}.id AND {there}.message_id IS NULL "
        f"AND one.message_id IN (SELECT id FROM {here(MESSAGE)})"
    )
    owner = since.there("chat.Person", f"{one}.owner_id")
    run(
        f"DELETE FROM {one} WHERE (message_id IS NOT NULL AND {message} IS NULL) OR (message_id IS NULL AND (owner_id IS NULL OR {owner} IS NULL))"
    )
    since.add(FILE)
    since.load(PREFIX, "created_at >= %s", [since.moment])
    message = since.there(MESSAGE, f"{here(PREFIX)}.message_id")
    run(f"DELETE FROM {here(PREFIX)} WHERE NOT EXISTS (SELECT 1 FROM {here(MESSAGE)} one WHERE one.id = {message})")
    since.add(PREFIX)
    one, there = here(IMPORTED), wanted(IMPORTED)
    since.load(IMPORTED, "at >= %s AND target = 'chat.Message'", [since.moment])
    run(f"UPDATE {one} SET target_id = coalesce({since.there(MESSAGE, 'CAST(target_id AS INTEGER)')}, '')")
    run(f"CREATE INDEX _imported ON {there} (system, source, kind, key)")
    run(
        f"DELETE FROM {one} WHERE target_id = '' OR EXISTS (SELECT 1 FROM {there} there WHERE there.system = {one}.system "
        f"AND there.source = {one}.source AND there.kind = {one}.kind AND there.key = {one}.key)"
    )
    since.add(IMPORTED)
