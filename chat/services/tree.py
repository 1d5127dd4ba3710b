"""The tree that the messages of a portal conversation form, kept in the transactions that store them.

What people and agents say is a chain: each message's ``parent`` is the one before it in its branch, and the conversation's ``head`` is the
tip of the branch that is shown. An answer's parent is the message that it answers. What was said while that answer was on its way
stands behind it once it is there. Notices hang beside the chain, on the message that they are about: nothing is said "after" them, so
they are never a head and never a sibling.

All functions must be called under the conversation's row lock, which ``take_number`` takes.
"""

from __future__ import annotations

from django.db import connection

from chat import live
from chat.models import Conversation, Message, Role
from chat.services.conversations import Number
from ops.quick_sql import update

TITLE_CHARACTERS = 60


def grown(message: Message, number: Number) -> None:
    """Somebody's message is stored: it is the tip of the branch that is shown. The first one gives the conversation its title."""
    head_moved(message.conversation_id, message.pk)
    if number.seq == 1 and (title := title_of(message.text)):
        update(Conversation, {"title": title}, pk=message.conversation_id, titled=False)


def title_of(text: str) -> str:
    """A title made from what was said: its beginning, cut at a word."""
    words = " ".join(text.split())
    if len(words) <= TITLE_CHARACTERS:
        return words
    return words[:TITLE_CHARACTERS].rsplit(" ", 1)[0].rstrip(".,;:–-") + "…"


def head_moved(conversation_id: int, message_id: int) -> None:
    """This message is the tip of the branch that is shown."""
    update(Conversation, {"head_id": message_id}, pk=conversation_id)


def notice_parent(number: Number, about_id: int | None) -> int | None:
    """Where a notice hangs: on the message that it is about, else on the tip."""
    if not number.portal:
        return None
    return about_id if about_id is not None else number.head_id


def answer_stored(answer: Message, number: Number) -> None:
    """An answer to ``answer.parent`` is stored: what was said behind the question meanwhile follows the answer now."""
    asked = answer.parent_id
    assert asked is not None
    waiting = list(Message.objects.filter(parent_id=asked, role=Role.USER).values_list("pk", flat=True))
    if waiting:
        Message.objects.filter(pk__in=waiting).update(parent_id=answer.pk, revision=revised(answer.conversation_id))
    if number.head_id in (asked, None):
        head_moved(answer.conversation_id, answer.pk)


def revised(conversation_id: int) -> int:
    """Raise the conversation's revision by one and return it: something that was said before has changed. Locks the row."""
    table = connection.ops.quote_name(Conversation._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {table} SET revision = revision + 1 WHERE id = %s RETURNING revision",  # noqa: S608
            [conversation_id],
        )
        row = cursor.fetchone()
    if row is None:
        raise Conversation.DoesNotExist(f"Conversation {conversation_id} was deleted.")
    live.conversation_changed(conversation_id)
    return int(row[0])


def touch(message: Message) -> int:
    """As ``revised``, and the message that changed is given the number. Returns it."""
    message.revision = revised(message.conversation_id)
    Message.objects.filter(pk=message.pk).update(revision=message.revision)
    return message.revision


def plant(conversation: Conversation) -> None:
    """Make a tree of a conversation that was none (a room's, an imported one's): one branch, in the order of the numbers.

    A few statements, however long it is; nothing for one that is a tree already. Locks the row.
    """
    revision = revised(conversation.pk)
    conversation.refresh_from_db(fields=["portal", "head", "revision"])
    if conversation.portal:
        return
    before = """(SELECT earlier.id FROM chat_message earlier WHERE earlier.conversation_id = chat_message.conversation_id
        AND earlier.seq < chat_message.seq AND earlier.role <> 'notice' ORDER BY earlier.seq DESC LIMIT 1)"""
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE chat_message SET parent_id = {before}, revision = %s WHERE conversation_id = %s AND parent_id IS NULL",  # noqa: S608
            [revision, conversation.pk],
        )
        cursor.execute(
            """UPDATE chat_conversation SET portal = %s, head_id = (SELECT id FROM chat_message
            WHERE conversation_id = chat_conversation.id AND role <> 'notice' ORDER BY seq DESC LIMIT 1) WHERE id = %s""",
            [True, conversation.pk],
        )
    conversation.refresh_from_db(fields=["portal", "head", "revision"])
