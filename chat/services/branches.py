"""Branches of a portal conversation: what is shown, what stands beside it, and saying or answering something again.

See ``chat.services.tree`` for how the tree is kept.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from django.db import connection, transaction
from django.db.models import Max, QuerySet
from django.utils import timezone

from agents.matrix.markdown import clean_text
from agents.models import Agent
from chat import live
from chat.models import (
    OPEN_TURN_STATES,
    Attachment,
    Conversation,
    Delivery,
    DeliveryState,
    Message,
    MessageState,
    Person,
    Role,
    Turn,
    TurnState,
)
from chat.services import quotas, tree, usage
from chat.services.messages import Below, CannotSend, Sent, check_agent, message_send, text_change
from chat.services.tree import plant, touch
from chat.turns.lanes import lane_of
from chat.turns.places import remembers_branches
from chat.wakeup import wake_deliveries, wake_turns
from ops.quick_sql import insert
from ops.services.audit import record

__all__ = ["answer_again", "head_set", "message_edited", "path", "plant", "remembers_branches", "siblings", "touch"]

_PATH = """WITH RECURSIVE branch(id, parent_id, depth) AS (
SELECT message.id, message.parent_id, 0 FROM chat_message message
JOIN chat_conversation conversation ON conversation.head_id = message.id WHERE conversation.id = %s
UNION ALL SELECT earlier.id, earlier.parent_id, branch.depth + 1 FROM chat_message earlier
JOIN branch ON earlier.id = branch.parent_id)
SELECT id FROM (SELECT id, depth FROM branch
UNION ALL SELECT notice.id, branch.depth - 1 FROM chat_message notice JOIN branch ON notice.parent_id = branch.id
WHERE notice.role = 'notice'
UNION ALL SELECT notice.id, 1000000000 FROM chat_message notice
WHERE notice.conversation_id = %s AND notice.parent_id IS NULL AND notice.role = 'notice') shown
ORDER BY depth DESC, id"""


def path(conversation: Conversation) -> list[int]:
    """Ids of the messages of the branch that is shown, the first one first: a chain, with the notices about its messages. One query."""
    with connection.cursor() as cursor:
        cursor.execute(_PATH, [conversation.pk, conversation.pk])
        return [row[0] for row in cursor.fetchall()]


def siblings(conversation_id: int, ids: Collection[int]) -> dict[int, list[int]]:
    """For each message the ids of all that stand in its place (itself among them), the oldest first: questions that were edited,
    answers that were given again. Notices have none. At most three queries, however many messages.
    """
    said = Message.objects.filter(conversation_id=conversation_id).exclude(role=Role.NOTICE)
    asked = list(said.filter(pk__in=ids).values_list("pk", "parent_id", "role"))
    parents = {parent for _, parent, _ in asked if parent is not None}
    beside = list(said.filter(parent_id__in=parents).order_by("seq").values_list("pk", "parent_id", "role"))
    if any(parent is None for _, parent, _ in asked):
        beside += said.filter(parent=None).order_by("seq").values_list("pk", "parent_id", "role")
    groups: dict[tuple[int | None, str], list[int]] = {}
    for pk, parent, role in beside:
        groups.setdefault((parent, role), []).append(pk)
    return {pk: groups[parent, role] for pk, parent, role in asked}


_TIP = """WITH RECURSIVE below(id) AS (SELECT id FROM chat_message WHERE id = %s
UNION ALL SELECT later.id FROM chat_message later
JOIN below ON later.parent_id = below.id WHERE later.role <> 'notice')
SELECT max(below.id) FROM below WHERE NOT EXISTS
(SELECT 1 FROM chat_message later WHERE later.parent_id = below.id AND later.role <> 'notice')"""


def head_set(*, conversation: Conversation, message: Message, actor: str) -> Conversation:
    """Show the branch that ends newest below ``message`` (of this conversation, no notice). Raises ``CannotSend``."""
    if message.conversation_id != conversation.pk or message.role == Role.NOTICE:
        raise CannotSend("There is no such branch in this conversation.", code="message.parent")
    with transaction.atomic():
        locked = Conversation.objects.select_for_update().get(pk=conversation.pk)
        with connection.cursor() as cursor:
            cursor.execute(_TIP, [message.pk])
            tip = cursor.fetchone()[0]
        if tip != locked.head_id:
            tree.head_moved(locked.pk, tip)
            tree.revised(locked.pk)
            record(actor=actor, action="conversation.branch_shown", target=locked, after={"head": tip})
    conversation.refresh_from_db(fields=["head", "revision"])
    return conversation


def message_edited(*, message: Message, text: str, person: Person, actor: str, external_id: str) -> Sent:
    """What a person said, said otherwise. A message that still waits for its answer is changed where it stands; otherwise the new
    one becomes a sibling of the old, with the same files, and is answered.

    Raises ``CannotSend``: ``message.not_yours``, ``message.empty``, ``turn.open`` (stop the answer first) and those of ``message_send``.
    """
    text = clean_text(text)
    if message.role != Role.USER or message.sender.person_id != person.pk or message.state == MessageState.REDACTED:
        raise CannotSend("Only your own messages can be edited.", code="message.not_yours")
    if not text.strip() and not message.attachments.exists():
        raise CannotSend("The message is empty.", code="message.empty")
    with transaction.atomic():
        conversation = Conversation.objects.select_for_update().get(pk=message.conversation_id)
        _needs_tree(conversation)
        known = _edited_before(message, external_id)
        if known is not None:
            return known
        agent = _agent_of(conversation, message)
        check_agent(agent, person)
        opened = list(_open_turns(conversation))
        own = [turn for turn in opened if turn.message_id == message.pk]
        if own and all(turn.state == TurnState.QUEUED and not turn.attempts for turn in own):
            return _edited_in_line(message, text, own[0], external_id, actor)
        if opened:
            raise _still_answering(opened[0].agent)
        copies = [_copy(one) for one in message.attachments.all()]
        return message_send(
            agent=agent,
            text=text,
            person=person,
            conversation=conversation,
            transport="portal",
            external_id=external_id,
            attachments=copies,
            actor=actor,
            below=Below(message.parent_id),
        )


def answer_again(*, message: Message, person: Person | None, actor: str) -> Turn:
    """Have a message answered once more; the new answer is a sibling of the earlier ones. ``message`` is the question or an answer to it.

    Raises ``CannotSend``: ``message.not_answered`` (nothing that could be answered), ``turn.open`` and those of ``message_send``.
    """
    now = timezone.now()
    with transaction.atomic():
        conversation = Conversation.objects.select_for_update().get(pk=message.conversation_id)
        _needs_tree(conversation)
        asked = message if message.role == Role.USER else message.in_reply_to
        if asked is None or asked.role != Role.USER or asked.state == MessageState.REDACTED:
            raise CannotSend("There is no question that could be answered again.", code="message.not_answered")
        agent = _agent_of(conversation, asked)
        check_agent(agent, person)
        if opened := _open_turns(conversation).first():
            raise _still_answering(opened.agent)
        try:
            quotas.check(person=person, agent=agent)
        except quotas.OverQuota as over:
            raise CannotSend(over.sentence, code=over.code) from None
        latest = asked.turns.filter(agent=agent).aggregate(latest=Max("variant"))["latest"]
        if asked.guard:
            Message.objects.filter(pk=asked.pk).update(guard="", state=MessageState.STORED)
            touch(asked)
        if asked.pk != conversation.head_id and asked.children.filter(role=Role.ASSISTANT).exists():
            tree.head_moved(conversation.pk, asked.pk)
            tree.revised(conversation.pk)
        turn = insert(
            Turn(
                conversation=conversation,
                agent=agent,
                message=asked,
                seq=asked.seq,
                variant=0 if latest is None else latest + 1,
                lane=lane_of(agent, conversation.pk),
                not_before=now,
                created_at=now,
            )
        )
        record(actor=actor, action="turn.again", target=turn)
        live.turn_changed(turn)
        usage.count_message(person_id=person.pk if person is not None else None, agent_id=agent.pk)
        transaction.on_commit(partial(wake_turns, [turn.pk]))
    return turn


def _needs_tree(conversation: Conversation) -> None:
    if not conversation.portal:
        raise CannotSend("Only conversations of the portal have branches.", code="conversation.no_branches")


def _open_turns(conversation: Conversation) -> QuerySet[Turn]:
    return Turn.objects.filter(conversation=conversation, state__in=OPEN_TURN_STATES).select_related("agent")


def _still_answering(agent: Agent) -> CannotSend:
    return CannotSend(f"{agent.name} is still answering in this conversation. Stop the answer first.", code="turn.open")


def _agent_of(conversation: Conversation, message: Message) -> Agent:
    """Who answered the message, or else answers in the conversation. Raises ``CannotSend``."""
    turn = message.turns.order_by("pk").select_related("agent__service", "agent__mapping__account").first()
    agent = turn.agent if turn is not None else conversation.agent
    if agent is None:
        raise CannotSend("The agent of this conversation does not exist any more.", code="agent.gone")
    return agent


def _edited_before(message: Message, external_id: str) -> Sent | None:
    """What an earlier request with the same id has made."""
    known = Message.objects.filter(transport="portal", external_id=external_id).first()
    if known is None:
        message.refresh_from_db(fields=["parts", "text"])
        if not any(part.get("type") == "edit" and part.get("key") == external_id for part in message.parts):
            return None
        known = message
    return Sent(known, known.turns.order_by("variant").first(), repeated=True)


def _edited_in_line(message: Message, text: str, turn: Turn, external_id: str, actor: str) -> Sent:
    """The answer has not begun. A worker that has read the old text already cannot claim the turn: its fencing number is another one."""
    if not Turn.objects.filter(pk=turn.pk, state=TurnState.QUEUED, fence=turn.fence).update(fence=turn.fence + 1):
        raise _still_answering(turn.agent)
    if message.text != text:
        touch(message)
        text_change(message, text, key=external_id)
        # Where the message was shown already, its event is edited.
        shown = Delivery.objects.filter(message=message, state=DeliveryState.SENT)
        again = list(shown.values_list("pk", flat=True))
        shown.update(state=DeliveryState.QUEUED, attempts=0, not_before=timezone.now(), sent_at=None)
        transaction.on_commit(partial(wake_deliveries, again))
    record(actor=actor, action="message.edited", target=message)
    transaction.on_commit(partial(wake_turns, [turn.pk]))
    turn.refresh_from_db()
    return Sent(message, turn)


def _copy(attachment: Attachment) -> str:
    """The same file, unsent, for another message; its content is stored once."""
    return str(
        Attachment.objects.create(
            owner_id=attachment.owner_id,
            name=attachment.name,
            media_type=attachment.media_type,
            size=attachment.size,
            sha256=attachment.sha256,
            path=attachment.path,
            width=attachment.width,
            height=attachment.height,
        ).pk
    )
