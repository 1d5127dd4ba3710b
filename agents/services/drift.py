"""Where the homeserver differs from the mappings: looking, keeping it in rows, and answering what differs now.

What is looked at in one pass: rooms of which an event said that something changed, everything that differed before, and the others in
turn. Up to ``ALL`` mappings are looked at every time; of more a slice, which goes on where the last pass ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from agents.matrix.errors import MatrixError
from agents.models import AgentState, Drift, DriftKind, Invitation, Mapping, Room, SyncRun
from agents.services.backends import Homeserver
from agents.sync.drift import Difference, Invited, SpaceSeen, Wanted, differences, settled
from agents.sync.look import Reading, read_mappings, subjects_of
from agents.sync.look_space import SpaceLook, look_at_space
from agents.sync.observe import invitees
from ops.logs import get_logger

log = get_logger(__name__)

# Up to so many mappings all are looked at in every pass; of more so many in turn, and so many that an event named.
ALL, SLICE, MOST_WANTED = 200, 100, 500
# Passes that come by themselves go round no more often than this, and leave the homeserver so much time for each mapping that was read
# (four requests): looking for what hardly ever happens must not be most of what it does.
ROUND_EVERY, EACH_TAKES = timedelta(seconds=45), timedelta(seconds=3)
# A look that found nothing is written down no more often than this.
NOTED_EVERY = timedelta(hours=1)
_RELATED = ("agent__service", "account", "room")


@dataclass(slots=True)
class Looked:
    """What one look found. ``cursor`` is where the next one goes on (0: it came round), ``error`` why it ended early.

    ``turned_at`` is when mappings were last read in turn, ``turned`` how many.
    """

    started: datetime
    mappings: list[int] = field(default_factory=list)
    rooms: list[int] = field(default_factory=list)
    found: list[Difference] = field(default_factory=list)
    settled: dict[int, dict[str, str]] = field(default_factory=dict)
    space: SpaceLook | None = None
    cursor: int = 0
    in_turn: bool = False
    turned_at: str = ""
    turned: int = 0
    error: MatrixError | None = None
    open_before: list[Drift] = field(default_factory=list)

    @property
    def known(self) -> dict[tuple[int, str, str], Drift]:
        """Rows that were open before, by what they are about."""
        return {(row.mapping_id or 0, row.kind, row.key): row for row in self.open_before}


@dataclass(frozen=True, slots=True)
class Noted:
    """What was written: differences that are new, those that are mended, and all that are open of what was looked at."""

    fresh: list[Drift]
    mended: list[Drift]
    open: list[Drift]


def look(*, homeserver: Homeserver, mappings: Iterable[Mapping] | None = None, budget: int | None = ALL) -> list[Drift]:
    """Look now, write down what differs, and return it (also what differed before). Mends nothing.

    ``mappings``: only these; ``None``: as sync chooses them, ``budget`` at most (``None``: all of them). Raises ``MatrixError`` when the
    homeserver does not answer.
    """
    pks = None if mappings is None else [mapping.pk for mapping in mappings]
    looked = look_now(homeserver, pks=pks, budget=budget, space=pks is None)
    if looked.error is not None and not looked.mappings:
        raise looked.error
    return note(homeserver, looked).open


def drift_of(mapping: Mapping) -> list[Drift]:
    """What differs of one mapping as far as is known, the newest first."""
    return list(Drift.objects.filter(mapping=mapping, mended_at__isnull=True))


def open_drift() -> QuerySet[Drift]:
    """Everything that differs as far as is known."""
    return Drift.objects.filter(mended_at__isnull=True).select_related("mapping__agent", "homeserver")


def look_wanted(room: Room) -> None:
    """Something about the room has changed: the next sync looks at it, whosever turn it is."""
    if room.look_wanted_at is None:
        room.look_wanted_at = timezone.now()
        Room.objects.filter(pk=room.pk).update(look_wanted_at=room.look_wanted_at)


def look_now(
    homeserver: Homeserver,
    *,
    pks: Sequence[int] | None = None,
    budget: int | None = ALL,
    space: bool = True,
    service_name: str = "",
    by_itself: bool = False,
) -> Looked:
    """Choose, read and compare. Writes nothing: rows may be written by ``note``, and a dry run writes none.

    ``by_itself``: a pass that nobody asked for; it goes round at most every ``ROUND_EVERY``, and more
    seldom the more there is to read.
    """
    looked = Looked(timezone.now())
    looked.open_before = list(
        Drift.objects.filter(homeserver=homeserver.service, mended_at__isnull=True).order_by("pk")[: 4 * MOST_WANTED]
    )
    chosen = _choose(homeserver, looked, pks, budget, service_name, by_itself)
    subjects = subjects_of(chosen)
    if space and (subjects or looked.in_turn or pks is not None):
        large = pks is None and budget is not None and (looked.cursor > 0 or len(subjects) > ALL or not looked.in_turn)
        looked.space = look_at_space(homeserver, large=large)
    reading = _read(homeserver, subjects, looked)
    looked.mappings = [one.mapping for one in subjects if one.mapping in reading.seen]
    looked.rooms = [one.room for one in subjects if one.mapping in reading.seen and one.room]
    space_seen = looked.space.seen if looked.space is not None else SpaceSeen()
    wanted = Wanted(invitees(), space_seen, homeserver.sender_id, hears=homeserver.client_mode)
    rows = _invitations(looked.rooms)
    for subject in subjects:
        seen = reading.seen.get(subject.mapping)
        if seen is None:
            continue
        of_room = rows.get(subject.room, {})
        looked.found += differences(subject, seen, wanted, of_room)
        if seen.state is not None and (moved := settled(seen.state, of_room)):
            looked.settled[subject.room] = moved
    if looked.space is not None:
        looked.found += looked.space.found
    return looked


def _read(homeserver: Homeserver, subjects: Sequence[Any], looked: Looked) -> Reading:
    if looked.space is not None and looked.space.error is not None:
        looked.error = looked.space.error
        return Reading(error=looked.error)
    reading = read_mappings(homeserver, subjects)
    looked.error = reading.error
    if reading.error is not None:
        log.info("sync.look_ended", error=reading.error.sentence[:200], looked=len(reading.seen), of=len(subjects))
    return reading


def mappings_in_use(homeserver: Homeserver, service_name: str = "") -> QuerySet[Mapping]:
    """The mappings that can drift: of agents that are not archived, whose account was confirmed once."""
    rows = Mapping.objects.filter(account__homeserver=homeserver.service, account__registered_at__isnull=False)
    if service_name:
        rows = rows.filter(agent__service__name=service_name)
    return rows.exclude(agent__state=AgentState.ARCHIVED).select_related(*_RELATED).order_by("pk")


def _choose(
    homeserver: Homeserver,
    looked: Looked,
    pks: Sequence[int] | None,
    budget: int | None,
    service_name: str,
    by_itself: bool,
) -> list[Mapping]:
    rows = mappings_in_use(homeserver, service_name)
    if pks is not None:
        return list(rows.filter(pk__in=list(pks)))
    if budget is None:
        looked.in_turn = True
        return list(rows)
    named = [row.mapping_id for row in looked.open_before if row.mapping_id]
    rooms = Room.objects.filter(homeserver=homeserver.service, look_wanted_at__isnull=False, mapping__isnull=False)
    named += rooms.order_by("look_wanted_at").values_list("mapping__pk", flat=True)[:MOST_WANTED]
    last = (
        SyncRun.objects.filter(service_name=service_name).exclude(looked={}).order_by("-pk")
        .values_list("looked", flat=True).first()
    )  # fmt: skip
    chosen: dict[int, Mapping] = {}
    looked.cursor = _cursor(last) if last else 0
    if isinstance(last, dict):
        looked.turned_at, looked.turned = str(last.get("turned_at") or ""), _number(last, "turned")
    pause = max(ROUND_EVERY, looked.turned * EACH_TAKES)
    if not (by_itself and looked.turned_at and looked.started - _time(looked.turned_at) < pause):
        looked.in_turn, looked.turned_at = True, looked.started.isoformat()
        turn = list(rows.filter(pk__gt=looked.cursor)[: budget + 1])
        if looked.cursor or len(turn) > budget:
            slice_ = turn[: min(SLICE, budget)]
            looked.cursor = slice_[-1].pk if len(slice_) < len(turn) else 0
            turn = slice_
        looked.turned = len(turn)
        chosen = {mapping.pk: mapping for mapping in turn}
    missing = [pk for pk in dict.fromkeys(named) if pk not in chosen]
    if missing:
        chosen |= {mapping.pk: mapping for mapping in rows.filter(pk__in=missing)}
    return list(chosen.values())


def _cursor(looked: Any) -> int:
    return _number(looked, "cursor")


def _number(looked: Any, name: str) -> int:
    value = looked.get(name) if isinstance(looked, dict) else 0
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def _invitations(rooms: Sequence[int]) -> dict[int, dict[str, Invited]]:
    found: dict[int, dict[str, Invited]] = {}
    for start in range(0, len(rooms), 500):
        rows = Invitation.objects.filter(room__in=rooms[start : start + 500])
        for room, person, state, attempts, error in rows.values_list(
            "room_id", "user_id", "state", "attempts", "error"
        ):
            found.setdefault(room, {})[person] = Invited(state, attempts, error)
    return found


# Rows


def note(homeserver: Homeserver, looked: Looked) -> Noted:
    """Write down what a look found: new differences, changed ones, and which are no more. Nothing new: nothing is written."""
    now = timezone.now()
    scope = set(looked.mappings)
    before = [row for row in looked.open_before if _in_scope(row, scope, looked)]
    known = {(row.mapping_id or 0, row.kind, row.key): row for row in before}
    found = {one.identity: one for one in looked.found}
    gone = [row for identity, row in known.items() if identity not in found]
    fresh = [_row(homeserver, one, now) for identity, one in found.items() if identity not in known]
    changed = [row for identity, row in known.items() if identity in found and _follow(row, found[identity], now)]
    with transaction.atomic():
        if gone:
            Drift.objects.filter(pk__in=[row.pk for row in gone]).update(mended_at=now, seen_at=now)
        if fresh:
            # Two looks at the same time write one row: the database sees to it.
            Drift.objects.bulk_create(fresh, ignore_conflicts=True)
        if changed:
            Drift.objects.bulk_update(changed, ["sentence", "detail", "mends", "seen_at"])
        _note_rooms(looked, now)
        for room, people in looked.settled.items():
            for person, state in people.items():
                Invitation.objects.filter(room=room, user_id=person).update(
                    state=state, error="", attempts=0, not_before=None, updated_at=now
                )
    stay = [row for identity, row in known.items() if identity in found]
    if fresh:
        stay += _stored(homeserver, fresh)
    return Noted(fresh, gone, stay)


def _in_scope(row: Drift, mappings: set[int], looked: Looked) -> bool:
    space = looked.space is not None and looked.space.whole and looked.space.error is None
    if not row.mapping_id:
        return space
    return row.mapping_id in mappings and (space or row.kind != DriftKind.SPACE_CHILD)


def _row(homeserver: Homeserver, one: Difference, now: datetime) -> Drift:
    return Drift(
        homeserver=homeserver.service,
        mapping_id=one.mapping or None,
        kind=one.kind,
        key=one.key[:255],
        sentence=one.sentence[:500],
        detail=_detail(one),
        mends=one.mends,
        found_at=now,
        seen_at=now,
    )


def _detail(one: Difference) -> dict[str, Any]:
    return {"stored": one.stored, "found": one.found, **({"repair": one.repair} if one.repair else {})}


def _follow(row: Drift, one: Difference, now: datetime) -> bool:
    """Let an open row say what was found now; whether there is anything to write."""
    tries = {name: row.detail[name] for name in ("tries", "tried_at") if name in row.detail}
    fields = {"sentence": one.sentence[:500], "detail": {**_detail(one), **tries}, "mends": one.mends}
    if all(getattr(row, name) == value for name, value in fields.items()) and now - row.seen_at < NOTED_EVERY:
        return False
    for name, value in fields.items():
        setattr(row, name, value)
    row.seen_at = now
    return True


def _stored(homeserver: Homeserver, fresh: list[Drift]) -> list[Drift]:
    wanted = {(row.mapping_id, row.kind, row.key) for row in fresh}
    rows = Drift.objects.filter(homeserver=homeserver.service, mended_at__isnull=True).filter(
        Q(mapping__in={row.mapping_id for row in fresh if row.mapping_id}) | Q(mapping__isnull=True)
    )
    return [row for row in rows if (row.mapping_id, row.kind, row.key) in wanted]


def _note_rooms(looked: Looked, now: datetime) -> None:
    """What was wanted has been looked at (unless an event came meanwhile); the others are marked now and then."""
    stale = now - NOTED_EVERY
    space = looked.space.room if looked.space is not None and looked.space.whole and not looked.space.error else 0
    rooms = [*looked.rooms, *([space] if space else [])]
    for start in range(0, len(rooms), 500):
        rows = Room.objects.filter(pk__in=rooms[start : start + 500])
        wanted = Q(look_wanted_at__lte=looked.started)
        due = rows.filter(wanted | Q(looked_at__isnull=True) | Q(looked_at__lt=stale))
        keys = list(due.values_list("pk", flat=True))
        if keys:
            Room.objects.filter(pk__in=keys).update(looked_at=now)
            Room.objects.filter(pk__in=keys).filter(wanted).update(look_wanted_at=None)


def note_failed(failed: Iterable[tuple[Drift, str]]) -> None:
    """An attempt to mend these failed: why, and when the next may be made by itself (ever later, at most an hour)."""
    now = timezone.now()
    for row, sentence in failed:
        tries = row.detail.get("tries")
        tries = tries + 1 if isinstance(tries, int) else 1
        row.error, row.detail = sentence[:500], {**row.detail, "tries": tries, "tried_at": now.isoformat()}
        row.save(update_fields=["error", "detail"])


def waits(row: Drift, now: datetime) -> bool:
    """Whether an attempt failed so lately that a pass that nobody asked for leaves it alone: 1, 2, 4 … minutes, at most 60."""
    tries, tried_at = row.detail.get("tries"), row.detail.get("tried_at")
    if not isinstance(tries, int) or not isinstance(tried_at, str):
        return False
    return now < datetime.fromisoformat(tried_at) + timedelta(minutes=min(2 ** (tries - 1), 60))


def drift_prune(*, keep_days: int = 90) -> int:
    """Forget what was mended long ago."""
    old = Drift.objects.filter(mended_at__lt=timezone.now() - timedelta(days=keep_days))
    return old.delete()[0]
