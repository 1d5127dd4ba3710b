"""Looks through a person's own conversations, newest first, in bounded steps.

Whoever has little (nearly everybody) is looked through directly: exact, and independent of how much others have said. For whoever has more
the index names candidates, newest first, of which those of the person are kept. A step looks at a limited number of rows; where it ends
before enough was found, the next page goes on from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from django.db import connection
from django.db.models import F, Q, QuerySet, Sum

from chat.access.grants import memberships_of
from chat.models import Membership, Message, ParticipantKind, Person, Role
from chat.search import index
from chat.search.wish import Wish

# So many messages are looked through directly.
FEW_MESSAGES = 20_000
# Rows that a step looks at: as the index names them, or one by one.
CANDIDATES = 5_000
STEPS = 4
MOST_TITLES = 20


@dataclass(slots=True)
class Found:
    """``messages`` newest first; ``below``: go on with ids below this one (None: that was all)."""

    messages: list[Message] = field(default_factory=list)
    below: int | None = None


def find_titles(person: Person, wish: Wish) -> list[Membership]:
    """Conversations in whose title all terms stand, newest first. Only without a sender: titles are said by nobody."""
    if not wish.terms or wish.sender:
        return []
    rows = _memberships(person, wish)
    for term in wish.terms:
        rows = rows.filter(_contains("conversation__title", term))
    if wish.before is not None:
        rows = rows.filter(conversation__last_message_at__lt=wish.before)
    if wish.after is not None:
        rows = rows.filter(conversation__last_message_at__gte=wish.after)
    newest = F("conversation__last_message_at").desc(nulls_last=True)
    return list(rows.select_related("conversation__agent").order_by(newest, "-pk")[:MOST_TITLES])


def find_messages(person: Person, wish: Wish, *, below: int | None, limit: int) -> Found:
    """Messages that hold all terms and meet all conditions, below an id. A wish that asks for nothing finds nothing."""
    if wish.is_empty:
        return Found()
    memberships = _memberships(person, wish).order_by()
    rows = _messages(person, wish)
    indexed = [term for term in wish.terms if len(term) >= index.SHORTEST_INDEXED]
    if _size(person) > FEW_MESSAGES and indexed and index.is_installed(connection):
        own = set(memberships.values_list("conversation_id", flat=True))
        return _by_index(rows, own, wish.terms, indexed, below, limit)
    rows = rows.filter(conversation_id__in=memberships.values("conversation_id"))
    if below is not None:
        rows = rows.filter(pk__lt=below)
    if _size(person) <= FEW_MESSAGES:
        # Sorted by a sum, so that no database walks through everybody's messages in their order instead of through the person's own.
        kept = _with_terms(rows, wish.terms).annotate(newest=F("pk") + 0).order_by("-newest")
        return _page(list(kept.values_list("pk", flat=True)[: limit + 1]), limit)
    return _by_windows(rows, wish.terms, below, limit)


def _size(person: Person) -> int:
    """How many messages the person's conversations hold, about."""
    total = memberships_of(person).aggregate(total=Sum("conversation__next_seq"))["total"]
    return int(total or 0)


def _memberships(person: Person, wish: Wish) -> QuerySet[Membership]:
    rows = Membership.objects.filter(person=person, removed_at=None)
    if wish.pinned is not None:
        rows = rows.filter(pinned_at__isnull=not wish.pinned)
    if wish.archived is not None:
        rows = rows.filter(archived_at__isnull=not wish.archived)
    if wish.agent:
        rows = rows.filter(conversation__agent__name__icontains=wish.agent)
    return rows


def _messages(person: Person, wish: Wish) -> QuerySet[Message]:
    """Conditions on messages themselves."""
    rows = Message.objects.exclude(role=Role.NOTICE)
    if wish.before is not None:
        rows = rows.filter(stored_at__lt=wish.before)
    if wish.after is not None:
        rows = rows.filter(stored_at__gte=wish.after)
    if wish.sender == "me":
        own = Q(sender__person_id=person.pk)
        if person.matrix_user_id:
            own |= Q(sender__kind=ParticipantKind.GUEST, sender__external_id=person.matrix_user_id)
        rows = rows.filter(own)
    elif wish.sender == "agent":
        rows = rows.filter(role=Role.ASSISTANT)
    return rows


def _contains(column: str, term: str) -> Q:
    """A term within a text, whatever its case. SQLite (and PostgreSQL with some locales) knows the case of ASCII letters only, so for
    others it is given the forms in which they are written."""
    found = Q(**{f"{column}__icontains": term})
    if not term.isascii():
        for form in {term.lower(), term.upper(), term.title(), term.capitalize()}:
            found |= Q(**{f"{column}__icontains": form})
    return found


def _with_terms(rows: QuerySet[Message], terms: Sequence[str]) -> QuerySet[Message]:
    for term in terms:
        rows = rows.filter(_contains("text", term))
    return rows


def _by_index(
    rows: QuerySet[Message],
    own: set[int],
    terms: Sequence[str],
    indexed: Sequence[str],
    below: int | None,
    limit: int,
) -> Found:
    """Step by step: the newest candidates of the index, of which the person's are kept."""
    short = [term for term in terms if term not in indexed]
    ids: list[int] = []
    for _ in range(STEPS):
        candidates = _candidates(indexed, below)
        mine = [pk for pk, conversation in candidates if conversation in own]
        kept = _with_terms(rows.filter(pk__in=mine), short).order_by("-pk")
        ids += kept.values_list("pk", flat=True)[: limit + 1 - len(ids)]
        if len(ids) > limit or len(candidates) < CANDIDATES:
            return _page(ids, limit)
        below = candidates[-1][0]
    return Found(_page(ids, limit).messages, below)


def _candidates(terms: Sequence[str], below: int | None) -> list[tuple[int, int]]:
    """The newest messages of anybody that hold the terms, by the index: their ids, and their conversations'."""
    values: list[int | str]
    if connection.vendor == "sqlite":
        match = " AND ".join('"' + term.replace('"', '""') + '"' for term in terms)
        statement, values = _BY_FTS, [below or 2**63 - 1, match, CANDIDATES]
    else:
        condition = " AND ".join(["id < %s", *["text ILIKE %s"] * len(terms)])
        statement = f"SELECT id, conversation_id FROM chat_message WHERE {condition} ORDER BY id DESC LIMIT %s"  # noqa: S608
        values = [below or 2**63 - 1, *(f"%{_escaped(term)}%" for term in terms), CANDIDATES]
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())


_BY_FTS = """
SELECT message.id, message.conversation_id FROM chat_message message JOIN (
    SELECT rowid FROM chat_message_parts WHERE rowid < %s AND chat_message_parts MATCH %s ORDER BY rowid DESC LIMIT %s
) found ON message.id = found.rowid ORDER BY message.id DESC
"""


def _escaped(term: str) -> str:
    return term.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _by_windows(rows: QuerySet[Message], terms: Sequence[str], below: int | None, limit: int) -> Found:
    """Without an index that helps: the person's own messages, so many at a time."""
    ids: list[int] = []
    for _ in range(STEPS):
        window = list(rows.order_by("-pk").values_list("pk", flat=True)[:CANDIDATES])
        kept = _with_terms(Message.objects.filter(pk__in=window), terms).order_by("-pk")
        ids += kept.values_list("pk", flat=True)[: limit + 1 - len(ids)]
        if len(ids) > limit or len(window) < CANDIDATES:
            return _page(ids, limit)
        below = window[-1]
        rows = rows.filter(pk__lt=below)
    return Found(_page(ids, limit).messages, below)


def _page(ids: Sequence[int], limit: int) -> Found:
    found = Message.objects.select_related("sender", "conversation").in_bulk(list(ids[:limit]))
    return Found([found[pk] for pk in ids[:limit] if pk in found], ids[limit - 1] if len(ids) > limit else None)


def shown_of(messages: Sequence[Message]) -> set[int]:
    """Which of these are on the branch that their conversation shows; the others are versions beside it. One query."""
    heads = {row.conversation_id for row in messages}
    if not heads:
        return set()
    marks = ", ".join(["%s"] * len(heads))
    with connection.cursor() as cursor:
        cursor.execute(_SHOWN.format(conversations=marks), list(heads))
        branches = {row[0] for row in cursor.fetchall()}
    return {row.pk for row in messages if row.pk in branches}


_SHOWN = """
WITH RECURSIVE branch(id, parent_id) AS (
    SELECT id, parent_id FROM chat_message
    WHERE id IN (SELECT head_id FROM chat_conversation WHERE id IN ({conversations}))
    UNION ALL
    SELECT above.id, above.parent_id FROM chat_message above JOIN branch ON above.id = branch.parent_id
)
SELECT id FROM branch
"""
