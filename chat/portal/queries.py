"""Reads of the portal: a person's list of conversations, and the branch of a conversation, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import Case, Count, F, IntegerField, Q, QuerySet, Value, When
from django.db.models.functions import Coalesce, Greatest

from chat.models import Conversation, Membership, Message, Person, Role

# More unread messages than these are not counted: "99+" says as much.
MOST_UNREAD = 100


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of the list begins: behind this conversation. ``at`` is when something was last said in it."""

    pinned: int
    at: datetime
    id: int


def list_page(
    person: Person,
    *,
    archived: bool = False,
    removed: bool = False,
    title: str = "",
    after: Place | None = None,
    limit: int = 50,
) -> tuple[list[Membership], Place | None]:
    """One page of a person's conversations, pinned first, then by when something was last said; and where the next begins.

    ``archived``: those that were put away instead; ``removed``: those that were deleted, archived or not; ``title``: only those with this
    in their title. Two queries: the sort runs over narrow rows only, the page's own are read afterwards.
    """
    rows = Membership.objects.filter(person=person, removed_at__isnull=not removed)
    if not removed:
        rows = rows.filter(archived_at__isnull=not archived)
    if title:
        rows = rows.filter(conversation__title__icontains=title)
    narrow = _sorted(rows)
    if after is not None:
        later = Q(at__lt=after.at) | Q(at=after.at, conversation_id__lt=after.id)
        narrow = narrow.filter(Q(is_pinned__lt=after.pinned) | (Q(is_pinned=after.pinned) & later))
    found = list(narrow.values_list("pk", "is_pinned", "at", "conversation_id")[: limit + 1])
    following = Place(*found[limit - 1][1:]) if len(found) > limit else None
    own = Membership.objects.filter(person=person).select_related("conversation__agent")
    by_pk = own.in_bulk([row[0] for row in found[:limit]])
    # One that was removed between the two queries is left out.
    return [by_pk[row[0]] for row in found[:limit] if row[0] in by_pk], following


def _sorted(rows: QuerySet[Membership]) -> QuerySet[Any]:
    pinned = Case(When(pinned_at=None, then=Value(0)), default=Value(1), output_field=IntegerField())
    at = Coalesce("conversation__last_message_at", "conversation__created_at")
    return rows.annotate(is_pinned=pinned, at=at).order_by("-is_pinned", "-at", "-conversation_id")


def unread_of(memberships: Sequence[Membership]) -> dict[int, int]:
    """How many messages of others each of them holds beyond what the person has read (by conversation; at most ``MOST_UNREAD``).

    One query for any number of memberships of one person.
    """
    behind = [row for row in memberships if row.last_read_seq < row.conversation.next_seq - 1]
    if not behind:
        return {}
    person_id = behind[0].person_id
    seen = Greatest(F("conversation__memberships__last_read_seq"), F("conversation__next_seq") - 1 - MOST_UNREAD)
    rows = (
        Message.objects.filter(conversation__memberships__in=[row.pk for row in behind], seq__gt=seen)
        .exclude(role=Role.USER, sender__person_id=person_id)
        .order_by()
        .values_list("conversation_id")
        .annotate(Count("pk"))
    )
    return dict(rows)


def branch_page(membership: Membership, *, before: int | None, limit: int) -> tuple[list[Message], int | None]:
    """A page of the branch that is shown, with senders, oldest first: the newest ``limit`` of it, or those before the message numbered
    ``before``; and the number to ask with for the page before (None: there is none). Two queries.

    It walks from child to parent. Notices hang beside the branch, and come along with the messages that they are about.
    """
    conversation = membership.conversation
    # Without ``before`` no more than a page is walked; with it the whole branch, to find where that is on it.
    path = _path_up(conversation, limit + 1 if before is None else None)
    if before is not None:
        at = next((place for place, (_, seq) in enumerate(path) if seq == before), None)
        path = path[at + 1 :] if at is not None else [step for step in path if step[1] < before]
    chain, more = [pk for pk, _ in path[:limit]], len(path) > limit
    return _messages(conversation.pk, chain, orphans=not more), path[limit - 1][1] if more else None


def branch_below(
    head_id: int | None, *, through: int, before: int | None, limit: int | None
) -> tuple[list[Message], int | None]:
    """As ``branch_page``, for the branch that ends at a message, without what is numbered higher than ``through``, and without notices.

    ``limit`` None: all of it. Two queries.
    """
    path = [step for step in _walk("SELECT %s", [head_id], None) if step[1] <= through] if head_id is not None else []
    if before is not None:
        at = next((place for place, (_, seq) in enumerate(path) if seq == before), None)
        path = path[at + 1 :] if at is not None else [step for step in path if step[1] < before]
    chain = [pk for pk, _ in path[:limit]]
    found = Message.objects.select_related("sender").in_bulk(chain)
    more = limit is not None and len(path) > limit
    return [found[pk] for pk in reversed(chain) if pk in found], path[len(chain) - 1][1] if more else None


def _messages(conversation_id: int, chain: Sequence[int], *, orphans: bool) -> list[Message]:
    """A part of a branch (newest first) with the notices about it, oldest first. ``orphans``: notices about nothing as well."""
    wanted = Q(pk__in=chain) | Q(parent__in=chain, role=Role.NOTICE)
    if orphans:
        wanted |= Q(conversation=conversation_id, parent=None, role=Role.NOTICE)
    rows = list(Message.objects.filter(wanted).select_related("sender"))
    place = {pk: number for number, pk in enumerate(reversed(chain))}
    # A notice stands behind what it is about, among what followed that in the order in which it was stored.
    rows.sort(key=lambda row: (place.get(row.pk, place.get(row.parent_id or 0, -2) + 1), row.pk))
    return rows


def _path_up(conversation: Conversation, most: int | None) -> list[tuple[int, int]]:
    """Ids and numbers of the branch that is shown, from its tip up. Without a tip (nothing was said, or it was removed) from the newest.

    The numbers do not always fall: what was said while an answer was on its way stands behind that answer.
    """
    if conversation.head_id is not None:
        start, values = "SELECT %s", [conversation.head_id]
    else:
        start = "SELECT id FROM chat_message WHERE conversation_id = %s AND role <> 'notice' ORDER BY seq DESC LIMIT 1"
        values = [conversation.pk]
    return _walk(start, values, most)


def _walk(start: str, values: Sequence[int], most: int | None) -> list[tuple[int, int]]:
    with connection.cursor() as cursor:
        cursor.execute(_WALK.format(start=start), [*values, most or 2**31 - 1])
        return list(cursor.fetchall())


_WALK = """
WITH RECURSIVE branch(id, parent_id, seq, depth) AS (
    SELECT id, parent_id, seq, 1 FROM chat_message WHERE id = ({start})
    UNION ALL
    SELECT above.id, above.parent_id, above.seq, branch.depth + 1
    FROM chat_message above JOIN branch ON above.id = branch.parent_id
    WHERE branch.depth < %s
)
SELECT id, seq FROM branch ORDER BY depth
"""
