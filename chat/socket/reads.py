"""What a hub reads from the database, always for many at once. Runs in the hub's threads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import reduce, wraps
from operator import or_
from typing import Any, ParamSpec, TypeVar

from django.db import close_old_connections
from django.db.models import Q
from django.db.models.functions import Length
from django.utils import timezone

from chat.access.grants import membership_at
from chat.access.identity import Identity, still_valid
from chat.api.people.render import TURN_FIELDS, conversation_json, message_json, turn_json
from chat.models import OPEN_TURN_STATES, Conversation, Membership, Message, Person, Turn
from chat.portal.queries import unread_of
from chat.socket.protocol import CATCH_UP_MESSAGES, HEARTBEAT
from chat.turns.follow import Row, row_of
from ops.live import live

# Parameters of one query.
_AT_ONCE = 400
# Conversations whose changes are read at once, and messages that are then read; beyond that, clients ask the API.
_CHANGED_AT_ONCE = 50
MOST_CHANGED = 1000
# A turn that ended so long ago is looked at again: its commit may have come later than its time says.
_LOOK_BACK = timedelta(seconds=10)
_LISTS_LOOK_BACK = timedelta(seconds=20)

P = ParamSpec("P")
T = TypeVar("T")


def in_thread(read: Callable[P, T]) -> Callable[P, T]:
    """A read of a long-lived thread: a connection that broke meanwhile is not used again, one of SQLite is not kept."""

    @wraps(read)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        close_old_connections()
        try:
            return read(*args, **kwargs)
        finally:
            close_old_connections()

    return run


@dataclass(frozen=True, slots=True)
class Place:
    """Where a conversation stands."""

    seq: int
    revision: int
    head: int | None
    title: str


@dataclass(frozen=True, slots=True)
class TurnRead:
    """A turn as people see it (``shown``) and its text (``row``)."""

    id: int
    conversation: int
    shown: dict[str, Any]
    row: Row


@dataclass(slots=True)
class CatchUp:
    """What a new subscription is told. ``gap``: too much is missing; ``messages`` is empty then. ``people``: how many have it;
    ``ended``: turns that ended lately, with their state."""

    place: Place
    messages: list[dict[str, Any]]
    gap: bool
    turns: list[TurnRead]
    people: int
    ended: dict[int, str]


@dataclass(slots=True)
class Loaded:
    """What became of the things that changed. ``lists``: by (person, conversation), None for one that is no longer theirs;
    ``gaps``: conversations of which too much changed to be read."""

    places: dict[int, Place] = field(default_factory=dict)
    messages: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    gaps: set[int] = field(default_factory=set)
    turns: list[TurnRead] = field(default_factory=list)
    lists: dict[tuple[int, int], dict[str, Any] | None] = field(default_factory=dict)


@dataclass(slots=True)
class Look:
    """What the look of every second found. ``open`` holds (state, fence, length of the text) by turn."""

    places: dict[int, Place] = field(default_factory=dict)
    open: dict[int, tuple[int, str, int, int]] = field(default_factory=dict)
    ended: dict[int, int] = field(default_factory=dict)
    members: set[tuple[int, int]] = field(default_factory=set)
    valid: set[Identity] = field(default_factory=set)
    lists: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    heartbeat: int = 20


@in_thread
def catch_up(
    identity: Identity, conversation_id: int, since: tuple[int, int] | None, turn_ids: Collection[int]
) -> CatchUp:
    """What changed in a person's conversation since (seq, revision), and its turns that are open or named. Raises ``NotYours``."""
    person = Person.objects.get(pk=identity.person_id)
    conversation = membership_at(person, conversation_id).conversation
    place = _place(conversation.next_seq, conversation.revision, conversation.head_id, conversation.title)
    messages: list[dict[str, Any]] = []
    gap = False
    if since is not None and since != (place.seq, place.revision):
        rows = list(_changed({conversation_id: since})[: CATCH_UP_MESSAGES + 1])
        gap = len(rows) > CATCH_UP_MESSAGES
        messages = [] if gap else message_json(rows)
    named = Q(pk__in=list(turn_ids)) if turn_ids else Q(pk__in=[])
    turns = Turn.objects.filter(named | Q(state__in=OPEN_TURN_STATES), conversation_id=conversation_id)
    people = Membership.objects.filter(conversation_id=conversation_id, removed_at=None).count()
    lately = Turn.objects.filter(conversation_id=conversation_id, finished_at__gte=timezone.now() - 2 * _LOOK_BACK)
    return CatchUp(place, messages, gap, _turns(turns), people, dict(lately.values_list("pk", "state")))


@in_thread
def load(since: Mapping[int, tuple[int, int]], turn_ids: Collection[int], lists: Collection[tuple[int, int]]) -> Loaded:
    """The messages of conversations beyond (seq, revision) with their open turns, turns by id, and lines of people's lists."""
    found = Loaded()
    wanted = set(turn_ids)
    # Turns first: the message that a turn left is then certainly among the messages.
    for some in _some(since):
        opened = Turn.objects.filter(conversation_id__in=some, state__in=OPEN_TURN_STATES)
        wanted |= set(opened.values_list("pk", flat=True))
    for some in _some(wanted):
        found.turns += _turns(Turn.objects.filter(pk__in=some))
    for some in _some(since, _CHANGED_AT_ONCE):
        found.places |= _places(some)
        rows = list(_changed({pk: since[pk] for pk in some})[: MOST_CHANGED + 1])
        if len(rows) > MOST_CHANGED:
            found.gaps |= set(some)
            continue
        for row, shown in zip(rows, message_json(rows), strict=True):
            found.messages.setdefault(row.conversation_id, []).append(shown)
    found.lists = _lists(lists)
    return found


@in_thread
def turns(ids: Collection[int]) -> list[TurnRead]:
    """Turns by id."""
    return _turns(Turn.objects.filter(pk__in=list(ids)))


@in_thread
def look(
    conversations: Collection[int],
    subscribed: Collection[tuple[int, int]],
    identities: Collection[Identity],
    people: Collection[int],
) -> Look:
    """One look at everything that the hub holds: a constant number of queries for each few hundred of it.

    ``subscribed`` holds pairs of person and conversation; ``people`` those whose lists are looked at this time.
    """
    found = Look(heartbeat=live(HEARTBEAT), valid=still_valid(identities))
    ended_since = timezone.now() - _LOOK_BACK
    for some in _some(conversations):
        found.places |= _places(some)
        turns = Turn.objects.filter(conversation_id__in=some)
        opened = turns.filter(state__in=OPEN_TURN_STATES).annotate(length=Length("partial"))
        for pk, conversation, state, fence, length in opened.values_list(
            "pk", "conversation_id", "state", "fence", "length"
        ):
            found.open[pk] = (conversation, state, fence, length)
        found.ended |= dict(turns.filter(finished_at__gte=ended_since).values_list("pk", "conversation_id"))
    pairs = defaultdict(set)
    for person_id, conversation_id in subscribed:
        pairs[conversation_id].add(person_id)
    for some in _some(pairs):
        members = Membership.objects.filter(
            conversation_id__in=some, person_id__in=set().union(*(pairs[pk] for pk in some)), removed_at=None
        )
        found.members |= set(members.values_list("person_id", "conversation_id"))
    said_since = timezone.now() - _LISTS_LOOK_BACK
    for some in _some(people):
        rows = Membership.objects.filter(
            person_id__in=some, removed_at=None, conversation__last_message_at__gte=said_since
        ).values_list("person_id", "conversation_id", "conversation__next_seq", "conversation__revision")
        found.lists |= {(person, pk): (seq, revision) for person, pk, seq, revision in rows}
    return found


def _some(ids: Iterable[int], size: int = _AT_ONCE) -> Iterator[list[int]]:
    every = list(ids)
    for begin in range(0, len(every), size):
        yield every[begin : begin + size]


def _place(next_seq: int, revision: int, head: int | None, title: str) -> Place:
    return Place(next_seq - 1, revision, head, title)


def _places(ids: list[int]) -> dict[int, Place]:
    rows = Conversation.objects.filter(pk__in=ids).values_list("pk", "next_seq", "revision", "head_id", "title")
    return {pk: _place(seq, revision, head, title) for pk, seq, revision, head, title in rows}


def _changed(since: Mapping[int, tuple[int, int]]) -> Any:
    """Messages that are new or changed since (seq, revision) of each conversation, in order.

    A conversation's numbers are taken under its row lock, so what is committed later has a higher one: nothing slips in behind.
    """
    parts = [
        Q(conversation_id=pk) & (Q(seq__gt=seq) | Q(revision__gt=revision)) for pk, (seq, revision) in since.items()
    ]
    return Message.objects.filter(reduce(or_, parts)).select_related("sender").order_by("conversation_id", "seq")


_ROW_FIELDS = (
    *("pk", "state", "fence", "partial", "reply_id", "reply__text"),
    *("error_code", "error_public", "finish_reason", "partial_parts", "reply__parts"),
)


def _turns(rows: Any) -> list[TurnRead]:
    """In one query, so that state and text are of one moment."""
    names = list(dict.fromkeys([*TURN_FIELDS, *_ROW_FIELDS, "conversation_id"]))
    found = []
    for values in rows.order_by("pk").values(*names):
        row = row_of(*(values[name] for name in _ROW_FIELDS[1:]))
        found.append(TurnRead(values["pk"], values["conversation_id"], turn_json(values), row))
    return found


def _lists(pairs: Collection[tuple[int, int]]) -> dict[tuple[int, int], dict[str, Any] | None]:
    by_person: dict[int, list[int]] = defaultdict(list)
    for person_id, conversation_id in pairs:
        by_person[person_id].append(conversation_id)
    found: dict[tuple[int, int], dict[str, Any] | None] = dict.fromkeys(pairs)
    for person_id, ids in by_person.items():
        rows = list(
            Membership.objects.filter(person_id=person_id, conversation_id__in=ids, removed_at=None).select_related(
                "conversation__agent"
            )
        )
        unread = unread_of(rows)
        for row in rows:
            found[person_id, row.conversation_id] = conversation_json(row, unread.get(row.conversation_id, 0))
    return found
