"""Looks for signs that the homeserver has lost what our rows know: a new, empty one that bears the same name.

One request a pass, as long as our own account is in the space; only when it is not are accounts looked up.
"""

from __future__ import annotations

from dataclasses import replace

from agents.matrix.errors import MatrixError, Refused
from agents.models import Account, Room
from agents.services.backends import Homeserver
from agents.services.identities import ask_identities
from agents.sync.observe import KnownAgent, Loss, Observed
from ops.logs import get_logger

log = get_logger(__name__)

SAMPLE = 40


def look_for_loss(homeserver: Homeserver, observed: Observed, *, everything: bool = False) -> None:
    """Fill ``observed.loss`` when accounts that were registered are unknown to the homeserver. Writes nothing.

    ``everything``: look up every account, not a sample. A homeserver that does not answer has lost nothing as far as we can tell.
    """
    registered = [one.account.user_id for one in observed.agents if one.account is not None and one.account.registered]
    if not registered:
        return
    space = observed.space.room_id if observed.space is not None else ""
    try:
        here = bool(space) and space in homeserver.client.joined_rooms(homeserver.sender_id)
    except Refused as error:
        if error.general:
            return
        here = False
    except MatrixError:
        return
    if here:
        return
    asked = registered if everything else registered[:: max(1, -(-len(registered) // SAMPLE))]
    said = ask_identities(homeserver, dict.fromkeys(asked, ""))
    missing = tuple(name for name, one in said.items() if one.state == "missing")
    if missing:
        log.warning("sync.loss", asked=len(asked), missing=len(missing))
        observed.loss = Loss(len(asked), missing, bool(space))


def as_empty(observed: Observed) -> None:
    """Let the plan be made as for a homeserver that has none of what was lost: accounts, their rooms, the space."""
    loss = observed.loss
    if loss is None:
        return
    missing = set(loss.missing)
    observed.agents = [_emptied(agent, missing, loss.space) for agent in observed.agents]
    if loss.space and observed.space is not None:
        observed.space = replace(observed.space, room_id="", name="", topic="")


def _emptied(agent: KnownAgent, missing: set[str], space: bool) -> KnownAgent:
    account, room = agent.account, agent.room
    if room is not None and space:
        room = replace(room, in_space=False)
    if account is None or account.user_id not in missing:
        return replace(agent, room=room)
    account = replace(account, registered=False, display_name="", avatar_source="")
    if room is not None:
        room = replace(room, room_id="", name="", topic="", in_space=False)
    return replace(agent, account=account, room=room)


def accounts_and_rooms(homeserver: Homeserver, missing: tuple[str, ...]) -> tuple[list[Account], list[Room]]:
    """The rows of what was lost."""
    accounts: list[Account] = []
    rooms: list[Room] = []
    for start in range(0, len(missing), 500):
        part = missing[start : start + 500]
        accounts += Account.objects.filter(homeserver=homeserver.service, user_id__in=part)
        rooms += Room.objects.filter(mapping__account__user_id__in=part, room_id__isnull=False)
    return accounts, rooms
