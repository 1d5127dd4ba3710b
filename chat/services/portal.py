"""People's conversations in the portal: begun, named, pinned, put away, deleted and brought back, read, and what is half written.

Whoever calls has found the conversation through the person's ``Membership`` (``chat.access.grants``); nothing here looks past it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from agents.models import Agent, AgentState
from chat import live
from chat.access.grants import NotYours, may_talk
from chat.models import Attachment, Conversation, Link, LinkKind, Membership, Message, Person
from chat.services.messages import CannotSend
from chat.services.shares import shares_end
from chat.services.tree import title_of
from ops.services.audit import record

DRAFT_CHARS = 100_000
DRAFT_ATTACHMENTS = 20
_BATCH = 500
# What was deleted can be brought back for so long.
REMOVED_FOR = timedelta(days=30)


def conversation_start(*, person: Person, agent: Agent, title: str = "", actor: str) -> Membership:
    """A new conversation of a person with an agent. Raises ``NotYours`` for an agent that is not theirs, ``CannotSend``
    (``agent.archived``) for one that is gone."""
    if not may_talk(person, agent):
        raise NotYours(f"There is no agent {agent.pk}.")
    if agent.state == AgentState.ARCHIVED:
        raise CannotSend(f"{agent.name} is archived; it no longer exists on its server.", code="agent.archived")
    given = clean_title(title)
    with transaction.atomic():
        conversation = Conversation.objects.create(
            title=given, titled=bool(given), agent=agent, portal=True, last_message_at=timezone.now()
        )
        Link.objects.create(conversation=conversation, kind=LinkKind.PORTAL, address=f"agent:{agent.pk}")
        membership = Membership.objects.create(conversation=conversation, person=person)
        record(actor=actor, action="conversation.started", target=conversation, message=agent.name)
        live.conversation_changed(conversation.pk)
    return membership


def conversation_rename(*, membership: Membership, title: str, actor: str) -> None:
    """Give a conversation a name. An empty one: it is named after its first message again."""
    conversation = membership.conversation
    given = clean_title(title)
    shown = given or title_of_first(conversation.pk)
    with transaction.atomic():
        Conversation.objects.filter(pk=conversation.pk).update(
            title=shown, titled=bool(given), revision=F("revision") + 1
        )
        record(
            actor=actor,
            action="conversation.renamed",
            target=conversation,
            before={"title": conversation.title},
            after={"title": shown},
        )
        live.conversation_changed(conversation.pk)
    conversation.refresh_from_db(fields=["title", "titled", "revision"])


def membership_pin(*, membership: Membership, pinned: bool, actor: str) -> None:
    """Keep a conversation at the top of the person's list, or no longer."""
    _mark(membership, "pinned_at", pinned, actor)


def membership_archive(*, membership: Membership, archived: bool, actor: str) -> None:
    """Put a conversation away, or take it back into the list."""
    _mark(membership, "archived_at", archived, actor)


def membership_remove(*, membership: Membership, actor: str) -> None:
    """Delete a conversation for its person; it can be brought back until it is purged. Its shared links end at once."""
    with transaction.atomic():
        _mark(membership, "removed_at", True, actor)
        shares_end(conversation_id=membership.conversation_id, person_id=membership.person_id, actor=actor)


def membership_restore(*, membership: Membership, actor: str) -> None:
    """Bring a deleted conversation back."""
    _mark(membership, "removed_at", False, actor)


_DEEDS = {
    ("pinned_at", True): "conversation.pinned",
    ("pinned_at", False): "conversation.unpinned",
    ("archived_at", True): "conversation.archived",
    ("archived_at", False): "conversation.unarchived",
    ("removed_at", True): "conversation.removed",
    ("removed_at", False): "conversation.restored",
}


def _mark(membership: Membership, field: str, wanted: bool, actor: str) -> None:
    """Set or empty one of the membership's times; doing it again changes nothing."""
    with transaction.atomic():
        changed = Membership.objects.filter(pk=membership.pk, **{f"{field}__isnull": wanted}).update(
            **{field: timezone.now() if wanted else None}
        )
        if changed:
            record(actor=actor, action=_DEEDS[field, wanted], target=membership.conversation)
            _tell(membership)
    membership.refresh_from_db(fields=[field])


def membership_read(*, membership: Membership, seq: int) -> bool:
    """Note up to where the person has read; it never goes back. True when it moved. Not audited: it happens all the time."""
    seen = min(seq, membership.conversation.next_seq - 1)
    with transaction.atomic():
        moved = Membership.objects.filter(pk=membership.pk, last_read_seq__lt=seen).update(last_read_seq=seen)
        if moved:
            membership.last_read_seq = seen
            _tell(membership)
    return bool(moved)


def draft_save(
    *, membership: Membership, text: str, attachments: Sequence[str] = (), actor: str = ""
) -> dict[str, Any]:
    """Keep what the person is about to say; nothing at all forgets it. Returns the draft. Attachments that are not theirs, or
    were sent already, are left out."""
    own = Attachment.objects.filter(pk__in=list(attachments)[:DRAFT_ATTACHMENTS], owner_id=membership.person_id)
    kept = {str(pk) for pk in own.filter(message=None).values_list("pk", flat=True)}
    now = timezone.now()
    draft: dict[str, Any] = {}
    if text or kept:
        draft = {
            "text": text[:DRAFT_CHARS],
            "attachments": [pk for pk in dict.fromkeys(map(str, attachments)) if pk in kept],
            "at": now.isoformat(),
        }
    Membership.objects.filter(pk=membership.pk).update(draft=draft, draft_at=now if draft else None)
    membership.draft, membership.draft_at = draft, now if draft else None
    return draft


def purge_removed() -> int:
    """Delete for good what was deleted ``REMOVED_FOR`` ago, as far as nobody else has it and nothing holds it. Returns how many."""
    before, count = timezone.now() - REMOVED_FOR, 0
    rows = Membership.objects.filter(removed_at__lt=before, conversation__hold="").order_by("pk")
    while batch := list(rows.select_related("person", "conversation")[:_BATCH]):
        for row in batch:
            with transaction.atomic():
                # Conditional: it may have been brought back this moment.
                if Membership.objects.filter(pk=row.pk, removed_at__lt=before).exists():
                    count += _delete_for(row.conversation_id, row.person, "system")
    return count


def draft_files(membership: Membership) -> list[Attachment]:
    """The files of a draft that are still there and were not sent, in their order."""
    ids = [pk for pk in membership.draft.get("attachments", ()) if isinstance(pk, str)]
    if not ids:
        return []
    own = Attachment.objects.filter(owner_id=membership.person_id, message=None).in_bulk([UUID(pk) for pk in ids])
    return [own[UUID(pk)] for pk in ids if UUID(pk) in own]


def conversations_of_person_delete(*, person: Person, actor: str) -> int:
    """Delete the conversations that a person has in the portal, for good. Returns how many.

    One that others have too, that a room of its agent shows, or that a legal hold keeps, goes on: only the person's view of it goes.
    """
    count = 0
    ids = list(Membership.objects.filter(person=person).order_by("pk").values_list("conversation_id", flat=True))
    for conversation_id in ids:
        with transaction.atomic():
            count += _delete_for(conversation_id, person, actor)
    return count


def _delete_for(conversation_id: int, person: Person, actor: str) -> int:
    conversation = Conversation.objects.select_for_update().filter(pk=conversation_id).first()
    if conversation is None:
        return 0
    Membership.objects.filter(conversation=conversation, person=person).delete()
    if conversation.hold or conversation.memberships.exists() or conversation.links.filter(room__isnull=False).exists():
        return 0
    conversation_delete(conversation=conversation, actor=actor)
    return 1


def conversation_delete(*, conversation: Conversation, actor: str) -> None:
    """Delete a conversation with all that was said in it, for good. Raises ``ValidationError`` while a legal hold is on it."""
    if conversation.hold:
        raise ValidationError(f"{conversation} is held: {conversation.hold}. Release it first.")
    with transaction.atomic():
        record(actor=actor, action="conversation.deleted", target=conversation)
        messages = Message.objects.filter(conversation=conversation).order_by("-pk")
        # Messages first: they hold on to who said them.
        while batch := list(messages.values_list("pk", flat=True)[:_BATCH]):
            Message.objects.filter(pk__in=batch).delete()
        conversation.delete()


def clean_title(title: str) -> str:
    """One line without control characters, of at most 255."""
    return " ".join("".join(char if char.isprintable() else " " for char in title).split())[:255]


def title_of_first(conversation_id: int) -> str:
    """The name that a conversation has from its first message ("" before there is one)."""
    first = Message.objects.filter(conversation_id=conversation_id, role="user").order_by("seq").first()
    return title_of(first.text) if first is not None else ""


def _tell(membership: Membership) -> None:
    """When this is committed, tell whatever the person has open that their list changed."""
    frame = {"type": "conversation", "conversation": membership.conversation_id}
    transaction.on_commit(partial(live.publish_person, membership.person_id, frame))
