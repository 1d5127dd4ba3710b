"""Client mode: into which rooms Switchboard's own account gets, and what is done about those into which it does not.

A person who opens a chat with an agent invites the agent, of which our one sync says nothing. So each agent's account is asked now and
then for its invitations (``watch_account``, part of the staggered look at sessions); whoever invites Switchboard's own account along
is heard at once.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

from agents.matrix.errors import HomeserverUnreachable, MatrixError, RateLimited, Refused, TokenRefused
from agents.models import Account, Room, RoomKind
from agents.services.backends import Homeserver
from agents.sync.hearing import hear, note_heard
from chat.matrix import gaps, state_events
from chat.matrix.events import catch_up
from chat.matrix.keys_in import take_agents_keys
from chat.models import SyncCursor
from ops.logs import get_logger
from ops.models import Service

log = get_logger(__name__)

# So many rooms are entered in one round, and so many that cannot be entered are walked.
ENTERED, WALKED = 100, 20
# Only invitations: what is said in rooms comes another way.
_INVITES_ONLY: dict[str, Any] = {
    "presence": {"types": []},
    "account_data": {"types": []},
    "room": {
        "account_data": {"types": []},
        "ephemeral": {"types": []},
        "timeline": {"types": [], "limit": 1},
        "state": {"types": []},
    },
}
_turn = itertools.count()
_wait_until = 0.0


def unheard(homeserver: Service) -> Any:
    """Rooms in use of which our sync brings nothing, since Switchboard's own account is not in them."""
    rows = Room.objects.filter(homeserver=homeserver, room_id__isnull=False, switchboard_joined=False)
    return rows.exclude(kind=RoomKind.SPACE).select_related("homeserver", "mapping__agent__service", "mapping__account")


def look_after(homeserver: Homeserver) -> int:
    """Get into rooms that we do not hear, a bounded number a round; those that stay closed are walked. Returns how many were entered.

    Where the homeserver wants us to wait with joining (one room in ten seconds is usual), the rest is walked meanwhile. Raises
    ``MatrixError`` when it does not answer.
    """
    global _wait_until
    rows, entered = unheard(homeserver.service), 0
    total = rows.count()
    if not total:
        return 0
    # The rooms that cannot be entered must not keep us from the others.
    start = (next(_turn) * ENTERED) % max(1, total) if total > ENTERED else 0
    closed: list[Room] = []
    for room in rows.order_by("pk")[start : start + ENTERED]:
        host = _host(room)
        try:
            if time.monotonic() < _wait_until:
                closed.append(room)
                continue
            if host is not None and hear(homeserver, room, host):
                entered += 1
                # What was said before we came in.
                catch_up(room, gaps.current_epoch(homeserver.service))
                continue
        except (HomeserverUnreachable, TokenRefused):
            raise
        except RateLimited as error:
            _wait_until = time.monotonic() + (error.retry_after or 10.0)
        except MatrixError as error:
            log.info("hearing.not_entered", room=room.room_id, error=error.sentence[:200])
        closed.append(room)
    first = (next(_turn) * WALKED) % len(closed) if len(closed) > WALKED else 0
    for room in closed[first : first + WALKED]:
        _walk(homeserver, room)
    if entered:
        log.info("hearing.entered", rooms=entered)
    return entered


def _walk(homeserver: Homeserver, room: Room) -> None:
    """Read the room as its agent does."""
    try:
        catch_up(room, gaps.current_epoch(homeserver.service))
    except HomeserverUnreachable:
        raise
    except MatrixError as error:
        log.info("hearing.not_walked", room=room.room_id, error=error.sentence[:200])


def _host(room: Room) -> str | None:
    mapping = getattr(room, "mapping", None)
    account = mapping.account if mapping is not None else state_events.account_of_direct_room(room)
    return account.user_id if account is not None else None


def invited(homeserver: Homeserver, room_id: str, stripped: list[dict[str, Any]]) -> None:
    """Switchboard's own account was invited: into a room of ours, or along with an agent. Other invitations are refused."""
    sender = next(
        (
            str(event.get("sender"))
            for event in stripped
            if event.get("type") == "m.room.member" and event.get("state_key") == homeserver.sender_id
        ),
        "",
    )
    room = Room.objects.filter(homeserver=homeserver.service, room_id=room_id).first()
    # A room that an agent makes just now has no row with its id yet.
    ours = room is not None or Account.objects.filter(homeserver=homeserver.service, user_id=sender).exists()
    try:
        if not ours and not state_events.may_invite(sender, homeserver.service):
            homeserver.client.leave(room_id, None)
            return
        homeserver.client.join(room_id, None)
        if room is not None:
            note_heard(room, True)
        elif not ours and not _agents_along(homeserver, room_id, sender):
            homeserver.client.leave(room_id, None, "There is no agent here.")
    except (RateLimited, Refused) as error:
        # Into a room of ours we come in a while (``look_after``); another invitation must not be forgotten.
        if isinstance(error, TokenRefused) or (error.retryable and not ours):
            raise
        log.info("hearing.invitation_not_followed", room=room_id, error=error.sentence[:200])


def _agents_along(homeserver: Homeserver, room_id: str, sender: str) -> bool:
    """Take the room up for the agents that were invited to it too. False: there is none."""
    members = homeserver.client.members(room_id, None)
    there = [one for one, how in members.items() if how in ("invite", "join") and one != homeserver.sender_id]
    mine = set(
        Account.objects.filter(homeserver=homeserver.service, user_id__in=there, mapping__isnull=False).values_list(
            "user_id", flat=True
        )
    )
    for user_id in sorted(mine):
        event = _invitation(room_id, user_id, sender)
        room = state_events.unknown_room(room_id, [event], homeserver.service)
        if room is not None:
            note_heard(room, True)
            return True
    return False


def _invitation(room_id: str, user_id: str, sender: str) -> dict[str, Any]:
    return {
        "type": "m.room.member",
        "room_id": room_id,
        "state_key": user_id,
        "sender": sender,
        "content": {"membership": "invite"},
    }


def put_out(homeserver: Service, room_id: str) -> None:
    """Switchboard's own account is not in the room any more."""
    room = Room.objects.filter(homeserver=homeserver, room_id=room_id).first()
    if room is not None:
        note_heard(room, False)
        log.warning("hearing.put_out", room=room_id)


def watch_account(homeserver: Homeserver, account: Account) -> None:
    """Look whether somebody has invited the agent's account into a chat, and follow. Costs one light request.

    Raises ``MatrixError`` when the homeserver, or the account's session, does not answer.
    """
    if not homeserver.client_mode or account.user_id == homeserver.sender_id:
        return
    cursor = SyncCursor.objects.filter(homeserver=homeserver.service, user_id=account.user_id).first()
    try:
        answer = homeserver.client.sync(account.user_id, cursor.next_batch if cursor else None, 0, _INVITES_ONLY)
    except Refused as error:
        if cursor is None or isinstance(error, TokenRefused) or error.status not in (400, 404):
            raise
        cursor.delete()
        return
    take_agents_keys(homeserver, account.user_id, answer)
    rooms = answer.get("rooms")
    invites = rooms.get("invite") if isinstance(rooms, dict) else None
    for room_id, news in invites.items() if isinstance(invites, dict) else ():
        stripped = news.get("invite_state", {}).get("events", []) if isinstance(news, dict) else []
        _follow(homeserver, account, str(room_id), [one for one in stripped if isinstance(one, dict)])
    # Only now: an invitation that was not followed comes again.
    SyncCursor.objects.update_or_create(
        homeserver=homeserver.service, user_id=account.user_id, defaults={"next_batch": str(answer.get("next_batch"))}
    )


def _follow(homeserver: Homeserver, account: Account, room_id: str, stripped: list[dict[str, Any]]) -> None:
    own = Room.objects.filter(homeserver=homeserver.service, room_id=room_id).first()
    if own is not None:
        # Somebody brings the agent back into a room that is known.
        homeserver.client.join(room_id, account.user_id)
        return
    events = [{**event, "room_id": room_id} for event in stripped]
    room = state_events.unknown_room(room_id, events, homeserver.service)
    if room is not None:
        room.homeserver = homeserver.service
        if hear(homeserver, room, account.user_id):
            catch_up(room, gaps.current_epoch(homeserver.service))
