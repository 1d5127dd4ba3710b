"""Invitations that are refused again and again: finding out why, and ending it one way or the other.

Sync postpones each refused invitation longer and longer (a minute, two, four, at most a day) and never waits for one, so nothing
loops. What stays refused needs a decision: the inviter has to come back into the room, or the person is not to be invited any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from django.db import transaction
from django.utils import timezone

from agents.matrix.errors import MatrixError, Refused
from agents.models import AgentState, Invitation, InvitationState, InviteePause, Room, RoomKind
from agents.services.backends import Homeserver
from agents.services.identities import bring_back
from agents.sync.pauses import BREAKS_AT as BREAKS_AT
from agents.sync.pauses import note_accepted
from ops.services.audit import record

Way = Literal["there", "left", "banned", "enter", "invite"]


def stuck_invitations() -> Any:
    """Invitations that were refused at least ``BREAKS_AT`` times, of rooms that are in use."""
    rows = Invitation.objects.filter(state=InvitationState.FAILED, attempts__gte=BREAKS_AT, room__room_id__isnull=False)
    return rows.exclude(room__mapping__agent__state=AgentState.ARCHIVED)


@dataclass(frozen=True, slots=True)
class Finding:
    """What keeps one person out of one room. ``there``, ``left`` and ``banned``: nobody has to be invited any more.

    ``enter``: the inviter is not in the room and has to come in first; ``invite``: nothing is seen that would forbid it now.
    """

    way: Way
    inviter: str
    sentence: str


def inviter_of(homeserver: Homeserver, room: Room) -> str:
    """Who invites people there: the agent whose room it is, Switchboard's own account for the space."""
    mapping = getattr(room, "mapping", None)
    if room.kind == RoomKind.SPACE or mapping is None:
        return homeserver.sender_id
    return str(mapping.account.user_id)


def invitation_look(homeserver: Homeserver, invitation: Invitation) -> Finding:
    """Why it is refused, as far as the room's members tell. Changes nothing. Raises ``MatrixError`` when the homeserver is gone."""
    room, person = invitation.room, invitation.user_id
    assert room.room_id
    inviter = inviter_of(homeserver, room)
    members: dict[str, str] | None = None
    for reader in dict.fromkeys((inviter, homeserver.sender_id)):
        try:
            members = homeserver.client.members(room.room_id, reader)
            break
        except Refused as error:
            if error.general:
                raise
    state = (members or {}).get(person, "")
    if state in ("join", "invite"):
        return Finding("there", inviter, f"{person} is in the room or has the invitation.")
    if state == "ban":
        return Finding("banned", inviter, f"{person} is banned from the room.")
    # Whoever left of their own will is left alone; before any invitation there is no such state.
    if state == "leave":
        return Finding("left", inviter, f"{person} left the room, or refused the invitation.")
    if members is None or members.get(inviter) != "join":
        return Finding("enter", inviter, f"{inviter}, who invites, is not in the room.")
    return Finding("invite", inviter, f"{inviter} is in the room and may invite.")


def invitation_mend(*, homeserver: Homeserver, invitation: Invitation, actor: str) -> str:
    """Do what ``invitation_look`` found. Returns the new state of the row, or raises ``MatrixError`` with the reason.

    The inviter is brought back into the room first; where it may not invite, Switchboard's own account tries.
    """
    room, person = invitation.room, invitation.user_id
    assert room.room_id
    found = invitation_look(homeserver, invitation)
    if found.way == "there":
        return _settle(invitation, InvitationState.INVITED, "", actor, found.sentence)
    if found.way in ("banned", "left"):
        return _settle(invitation, InvitationState.LEFT, "", actor, f"{found.sentence} Not invited any more.")
    if found.way == "enter" and not bring_back(homeserver, room, found.inviter):
        raise Refused(f"{found.inviter} does not get into the room", action=f"invite {person}")
    refusal: MatrixError | None = None
    for inviter in dict.fromkeys((found.inviter, homeserver.sender_id)):
        try:
            homeserver.client.invite(room.room_id, person, inviter)
            note_accepted(homeserver.service, [person])
            return _settle(invitation, InvitationState.INVITED, "", actor, f"{person} was invited by {inviter}.")
        except Refused as error:
            if error.general:
                raise
            refusal = refusal or error
    assert refusal is not None
    raise refusal


def _settle(invitation: Invitation, state: InvitationState, error: str, actor: str, message: str) -> str:
    with transaction.atomic():
        before = invitation.state
        invitation.state, invitation.error, invitation.not_before, invitation.attempts = state, error, None, 0
        invitation.save(update_fields=["state", "error", "not_before", "attempts", "updated_at"])
        record(
            actor=actor,
            action="invitation.settled",
            target=invitation,
            message=message,
            before={"state": before},
            after={"state": str(state)},
        )
    return str(state)


def invitation_restore(*, homeserver: Homeserver, invitation: Invitation, kept: dict[str, Any], actor: str) -> None:
    """Bring back a row as it was (``{state, attempts, error}``), and withdraw an invitation that was not taken yet."""
    room = invitation.room
    if invitation.state == InvitationState.INVITED and room.room_id:
        try:
            members = homeserver.client.members(room.room_id, inviter_of(homeserver, room))
            if members.get(invitation.user_id) == "invite":
                homeserver.client.kick(room.room_id, invitation.user_id, inviter_of(homeserver, room))
        except Refused as error:
            if error.general:
                raise
    with transaction.atomic():
        invitation.state, invitation.attempts = kept["state"], kept["attempts"]
        invitation.error = kept["error"]
        # Not tried again by itself for a day: an operator is at it.
        invitation.not_before = timezone.now() + timedelta(days=1)
        invitation.save(update_fields=["state", "error", "not_before", "attempts", "updated_at"])
        record(actor=actor, action="invitation.restored", target=invitation, after={"state": kept["state"]})


def open_pauses() -> Any:
    """People whom the homeserver refused in room after room, and who are invited nowhere for a while."""
    return InviteePause.objects.filter(failures__gte=BREAKS_AT).order_by("user_id")


def invitee_resume(*, pause: InviteePause, actor: str) -> None:
    """End the pause of a person now: the next sync invites them again everywhere."""
    with transaction.atomic():
        record(
            actor=actor,
            action="invitee.resumed",
            target=pause,
            before={"user_id": pause.user_id, "failures": pause.failures},
        )
        note_accepted(pause.homeserver, [pause.user_id])
