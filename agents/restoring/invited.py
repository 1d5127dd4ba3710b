"""Invitations after a restore: nobody is invited again who was, came, or declined since the backup was made.

Invitations that the backup knows as not sent wait until the rooms' members have been looked at.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from agents.matrix.errors import MatrixError, Refused
from agents.models import Invitation, InvitationState, Room
from agents.services.backends import Homeserver, NoHomeserver, open_homeserver
from agents.services.invitations import inviter_of
from agents.services.rebuild_rows import INVITATION_STATES
from agents.sync.observe import invitees
from ops.backup.hooks import Fence, Reconcile, register_fence, register_reconcile
from ops.words import counted

# Should the look never come, they are sent after this time.
WAIT = timedelta(hours=1)
_UNSENT = (InvitationState.PENDING, InvitationState.FAILED)


def hold_back(fence: Fence) -> None:
    """Nothing is sent before it was looked at."""
    if "mappings" in fence.kinds:
        rows = Invitation.objects.using(fence.alias).filter(state__in=_UNSENT)
        rows.update(not_before=fence.now + WAIT)


def look(work: Reconcile) -> dict[str, Any] | None:
    """Write down who is in which room, or was. Returns ``{"sentence", "known": how many states were corrected}``."""
    if "mappings" not in work.kinds:
        return None
    try:
        homeserver = open_homeserver()
    except NoHomeserver:
        return None
    people = sorted({*invitees(), *Invitation.objects.filter(state__in=_UNSENT).values_list("user_id", flat=True)})
    known = 0
    rooms = Room.objects.filter(homeserver=homeserver.service, room_id__isnull=False)
    rooms = rooms.select_related("mapping__account").order_by("pk")
    total = rooms.count() if people else 0
    for number, room in enumerate(rooms.iterator(chunk_size=500) if people else (), start=1):
        if number % 50 == 0:
            work.progress(f"Looking who is in the rooms ({number:,} of {total:,})")
        known += _look_at(homeserver, room, people)
    released = Invitation.objects.filter(state__in=_UNSENT, not_before__gt=work.now).update(not_before=None)
    sentence = (
        f"{counted(known, 'invitation')} had been sent, accepted or declined since; nobody is invited again."
        if known
        else "Nobody had been invited since."
    )
    return {"sentence": sentence, "known": known, "to_send": released}


def _look_at(homeserver: Homeserver, room: Room, people: list[str]) -> int:
    rows = {row.user_id: row for row in Invitation.objects.filter(room=room, user_id__in=people)}
    unsure = [one for one in people if one not in rows or rows[one].state in _UNSENT]
    if not unsure:
        return 0
    try:
        members = homeserver.client.members(room.room_id or "", inviter_of(homeserver, room))
    except Refused as error:
        if error.general:
            raise
        return 0
    except MatrixError:
        raise
    fresh = [
        Invitation(room=room, user_id=person, state=state)
        for person in unsure
        if (state := INVITATION_STATES.get(members.get(person, ""))) is not None
    ]
    Invitation.objects.bulk_create(
        fresh, update_conflicts=True, unique_fields=["room", "user_id"], update_fields=["state"]
    )
    return len(fresh)


register_fence("invitations", hold_back)
register_reconcile("Invitations", look)
