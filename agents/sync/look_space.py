"""Reads what the homeserver has of the space: whether it is there, the only one, and what it lists. One request for all rooms."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from django.utils import timezone

from agents.matrix.errors import MatrixError, Refused, TokenRefused, account_is_missing
from agents.models import DriftKind, Invitation, Room
from agents.services.backends import Homeserver
from agents.services.spaces import (
    other_spaces,
    same_purpose,
    space_alias,
    space_find,
    space_name,
    space_row,
    space_view,
)
from agents.sync.drift import Difference, Invited, Seen, SpaceSeen, Subject, Wanted, space_differences
from agents.sync.look import read_state
from agents.sync.observe import invitees
from ops.words import counted

# Where there are thousands of agents what the space lists is read this often, or when an event says that it changed.
EVERY = timedelta(minutes=10)
KEY = "space"


@dataclass(slots=True)
class SpaceLook:
    """``room`` is our row (0: none yet). ``whole``: it was read. ``target`` is the space that is to be linked instead when the known one
    is gone ("": a new one), ``relist`` what that lists already."""

    room: int = 0
    whole: bool = False
    seen: SpaceSeen = field(default_factory=SpaceSeen)
    found: list[Difference] = field(default_factory=list)
    target: str = ""
    relist: frozenset[str] = frozenset()
    error: MatrixError | None = None

    @property
    def gone(self) -> bool:
        return any(one.kind == DriftKind.SPACE_GONE for one in self.found)


def space_due(row: Room) -> bool:
    """Whether the space of a large installation is to be read again."""
    now = timezone.now()
    return row.look_wanted_at is not None or row.looked_at is None or now - row.looked_at > EVERY


def look_at_space(homeserver: Homeserver, *, large: bool) -> SpaceLook:
    """Read the space. ``large``: only when it is due. Never raises a ``MatrixError``."""
    row = space_row(homeserver)
    look = SpaceLook()
    if row is None or not row.room_id:
        return look
    look.room, look.seen = row.pk, SpaceSeen(row.room_id)
    if large and not space_due(row):
        return look
    look.whole = True
    try:
        _read(homeserver, row, look)
    except MatrixError as error:
        look.error = error
    return look


def _read(homeserver: Homeserver, row: Room, look: SpaceLook) -> None:
    client, sender = homeserver.client, homeserver.sender_id
    subject = Subject(
        mapping=0, agent=0, key=KEY, label=space_name(homeserver), user_id=sender, own_session=False, avatar_mxc="",
        room=row.pk, room_id=row.room_id or "", alias=space_alias(homeserver), topic="", in_space=True,
    )  # fmt: skip
    wanted = Wanted(invitees(), look.seen, sender)
    try:
        client.joined_rooms(sender)
        state = read_state(homeserver, subject.room_id, sender)
        alias_room = client.resolve_alias(subject.alias) or ""
    except Refused as error:
        if isinstance(error, TokenRefused) or not account_is_missing(error):
            raise
        state, alias_room = None, ""
    there = state is not None and state.membership(sender) == "join"
    second: dict[str, str] = {}
    if there:
        for view in other_spaces(homeserver, subject.room_id):
            if same_purpose(homeserver, view):
                second[view.room_id] = f"“{view.name}”, {counted(len(view.children), 'room')}"
    rows = Invitation.objects.filter(room=row).values_list("user_id", "state", "attempts", "error")
    invited = {person: Invited(state_, attempts, error) for person, state_, attempts, error in rows}
    look.found = space_differences(subject, Seen(state=state, alias_room=alias_room), wanted, invited, second)
    if look.gone:
        _find_another(homeserver, look)
        return
    assert state is not None
    look.seen = SpaceSeen(subject.room_id, frozenset(state.children))


def _find_another(homeserver: Homeserver, look: SpaceLook) -> None:
    """Which space is to be the one, without changing anything; a homeserver that has lost our account has none."""
    try:
        found = space_find(homeserver)
    except Refused as error:
        if isinstance(error, TokenRefused):
            raise
        return
    look.target = found.room_id
    view = space_view(homeserver, found.room_id) if found.room_id else None
    look.relist = frozenset(view.children) if view is not None else frozenset()
