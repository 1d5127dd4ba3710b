"""A mapping as it was: its room, its account, whether the room was quiet; one that was removed is made again from its rows."""

from __future__ import annotations

from django.db import transaction

from agents.models import Account, Agent, Mapping, Room
from agents.services.backends import homeserver_of
from agents.services.identities import account_rename
from agents.services.mappings import mapping_relink
from agents.services.rooms import room_set_quiet
from ops.history.registry import CannotBringBack, Done, Wanted
from ops.services.audit import record


def mapping_bring_back(*, wanted: Wanted) -> Done:
    """Make a mapping what it was. Raises ``CannotBringBack``, ``MatrixError``, or ``ValueError`` when the room is somebody else's now."""
    state, said = wanted.state, []
    mapping: Mapping = wanted.present or _again(wanted)
    if wanted.present is None:
        said.append("The mapping is there again.")
    mapping = Mapping.objects.select_related("agent__service", "account__homeserver", "room").get(pk=mapping.pk)
    user_id = state["user_id"]
    if mapping.account.user_id != user_id:
        holder = Account.objects.filter(user_id=user_id).first()
        if holder is not None:
            raise CannotBringBack(
                f"{user_id} is another agent's account now ({holder}). Bring that one back first.",
                code="version.account_in_use",
            )
        account_rename(account=mapping.account, user_id=user_id, actor=wanted.actor)
        said.append(f"It speaks as {user_id} again.")
    room_id = state["matrix_room"]
    if room_id and (mapping.room is None or mapping.room.room_id != room_id):
        homeserver = homeserver_of(mapping.account.homeserver)
        mapping = mapping_relink(
            mapping=mapping, room_id=room_id, homeserver=homeserver, actor=wanted.actor, reason="An earlier version."
        )
        said.append(f"Its room is {room_id} again; what was said there meanwhile is not answered.")
    elif not room_id and mapping.room is not None and mapping.room.room_id:
        said.append("It had no room then; the room of now stays.")
    if mapping.room is not None:
        room_set_quiet(room=mapping.room, quiet=state["quiet"], actor=wanted.actor)
    said.append("Drift tells whether the homeserver sees it the same way.")
    return Done(" ".join(said), str(mapping.pk))


def _again(wanted: Wanted) -> Mapping:
    state = wanted.state
    with transaction.atomic():
        agent = Agent.objects.filter(pk=state["agent"]).first()
        account = Account.objects.filter(user_id=state["user_id"]).first()
        if agent is None or account is None:
            raise CannotBringBack(
                f"{state['agent_name']} has no {'row' if agent is None else 'account'} any more; sync makes both.",
                code="version.agent_gone",
            )
        other = Mapping.objects.filter(agent=agent).first() or Mapping.objects.filter(account=account).first()
        if other is not None:
            raise CannotBringBack(
                f"There is a mapping for it again ({other}). Bring back a version of that one.",
                code="version.replaced",
            )
        room = Room.objects.filter(pk=state["room"], mapping__isnull=True).first() if state["room"] else None
        mapping = Mapping.objects.create(agent=agent, account=account, room=room)
        record(actor=wanted.actor, action="mapping.restored", target=mapping, message="Brought back.")
    return mapping
