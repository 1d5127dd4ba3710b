"""A breaker for each person: whom the homeserver refuses in room after room is invited nowhere for a while, and then once.

Three refusals in a row, in different rooms, open it. While it is open nobody invites them anywhere; when its time is over one
invitation tries: taken, everything goes on at once; refused, the pause doubles. A refusal that is the room's own fault (the inviter is
not in it) counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from agents.matrix.errors import MatrixError
from agents.models import Invitation, InvitationState, InviteePause, Room
from agents.services.backends import Homeserver
from ops.logs import get_logger
from ops.models import Service

log = get_logger(__name__)

BREAKS_AT = 3
# 5, 10, 20 … minutes, at most a day.
FIRST_MINUTES, MOST_MINUTES = 5, 24 * 60


def pauses(homeserver: Service, people: Iterable[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Who is invited nowhere now, and who is to be tried with one invitation. One query."""
    now = timezone.now()
    rows = InviteePause.objects.filter(homeserver=homeserver, user_id__in=list(people), failures__gte=BREAKS_AT)
    found = list(rows.values_list("user_id", "until"))
    paused = frozenset(person for person, until in found if until is not None and until > now)
    return paused, frozenset(person for person, _ in found) - paused


def without_paused(homeserver: Service, people: Sequence[str]) -> tuple[str, ...]:
    """Those who may be invited along when a room is made: a refusal there costs everybody's invitation."""
    if not people:
        return ()
    paused, probed = pauses(homeserver, people)
    return tuple(one for one in people if one not in paused and one not in probed)


def is_paused(homeserver: Service, person: str) -> bool:
    """Whether the person is invited nowhere now."""
    return person in pauses(homeserver, [person])[0]


def note_refused(
    homeserver: Homeserver, room: Room, person: str, inviter: str, error: MatrixError, *, new: bool
) -> None:
    """The homeserver refused an invitation. ``new``: the one before to this room was not refused."""
    if not new and not InviteePause.objects.filter(homeserver=homeserver.service, user_id=person).exists():
        return
    if _is_rooms_fault(homeserver, room, inviter):
        return
    now = timezone.now()
    with transaction.atomic():
        InviteePause.objects.get_or_create(homeserver=homeserver.service, user_id=person)
        row = InviteePause.objects.select_for_update().get(homeserver=homeserver.service, user_id=person)
        if row.until is not None and row.until > now:
            # It was under way when the third refusal came.
            return
        if row.failures < BREAKS_AT and not new:
            return
        row.failures += 1
        row.error = error.sentence[:500]
        if row.failures >= BREAKS_AT:
            minutes = min(FIRST_MINUTES * 2 ** min(row.failures - BREAKS_AT, 20), MOST_MINUTES)
            row.until = now + timedelta(minutes=minutes)
            log.warning("invitee.paused", user_id=person, failures=row.failures, minutes=minutes)
        row.save()


def _is_rooms_fault(homeserver: Homeserver, room: Room, inviter: str) -> bool:
    try:
        member = homeserver.client.get_state(room.room_id or "", "m.room.member", inviter, inviter)
    except MatrixError:
        return True
    return (member or {}).get("membership") != "join"


def note_accepted(homeserver: Service, people: Iterable[str]) -> None:
    """Invitations were taken by the homeserver: what was refused before is tried again with the next pass."""
    names = list(people)
    rows = InviteePause.objects.filter(homeserver=homeserver, user_id__in=names)
    for row in list(rows):
        opened = row.failures >= BREAKS_AT
        row.delete()
        if opened:
            log.info("invitee.resumed", user_id=row.user_id)
            Invitation.objects.filter(
                room__homeserver=homeserver, user_id=row.user_id, state=InvitationState.FAILED
            ).update(not_before=None)
