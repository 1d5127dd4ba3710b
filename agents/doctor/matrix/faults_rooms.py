"""Faults of accounts, invitations and the space, caused on the homeserver that is set up."""

from __future__ import annotations

import secrets

from django.conf import settings
from django.utils import timezone

from agents.doctor.matrix.faults_common import ACTOR, Memory, first_mapping, homeserver_here, target_of
from agents.matrix.errors import Refused
from agents.matrix.keys import MARKER
from agents.models import Account, Invitation
from agents.services.identities import account_rename
from agents.services.spaces import point_alias, space_alias, space_name, space_row
from agents.sync.rooms import invite, register_sender
from ops.doctor.faults import FaultRefused, register_fault


def _cause_missing() -> Memory:
    homeserver = homeserver_here()
    first_mapping(homeserver)
    localpart = (
        f"{homeserver.service.options.get('user_prefix') or settings.MATRIX_USER_PREFIX}lost_{secrets.token_hex(4)}"
    )
    account = Account.objects.create(
        homeserver=homeserver.service,
        user_id=f"@{localpart}:{homeserver.server_name}",
        localpart=localpart,
        registered_at=timezone.now(),
    )
    return {"service": homeserver.service.name, "account": account.pk}


def _heal_missing(memory: Memory) -> None:
    Account.objects.filter(pk=memory["account"], mapping__isnull=True).delete()


register_fault(
    "matrix.user_missing",
    title="An account that was confirmed is not on the homeserver.",
    cause=_cause_missing,
    heal=_heal_missing,
    needs=("homeserver",),
    target=target_of,
    repair_target=lambda memory: f"account:{memory['account']}",
    evidence=("missing", "asked"),
)


def _cause_identity() -> Memory:
    homeserver = homeserver_here()
    mapping = first_mapping(homeserver)
    right = mapping.account.user_id
    account_rename(
        account=mapping.account, user_id=f"@elsewhere_{secrets.token_hex(4)}:{homeserver.server_name}", actor=ACTOR
    )
    return {
        "service": homeserver.service.name,
        "account": mapping.account.pk,
        "agent": mapping.agent_id,
        "user_id": right,
    }


def _heal_identity(memory: Memory) -> None:
    account = Account.objects.filter(pk=memory["account"]).first()
    if account is not None and account.user_id != memory["user_id"]:
        account_rename(account=account, user_id=memory["user_id"], actor=ACTOR)


register_fault(
    "identity.token_invalid",
    title="An agent's row names an account outside our namespace.",
    cause=_cause_identity,
    heal=_heal_identity,
    needs=("homeserver",),
    target=target_of,
    evidence=("refused",),
)


def _cause_sender() -> Memory:
    homeserver = homeserver_here()
    mapping = first_mapping(homeserver)
    assert mapping.room is not None
    assert mapping.room.room_id
    room_id, client = mapping.room.room_id, homeserver.client
    register_sender(homeserver)
    client.invite(room_id, homeserver.sender_id, mapping.account.user_id)
    client.join(room_id, homeserver.sender_id)
    content = {"msgtype": "m.text", "body": "An answer under the wrong name.", MARKER: {"hop": 0, "turn": 1}}
    event_id = client.send(room_id, content, txn_id=f"sb.fault.{secrets.token_hex(8)}", user_id=homeserver.sender_id)
    return {
        "service": homeserver.service.name,
        "room_id": room_id,
        "event_id": event_id,
        "agent": mapping.agent_id,
        "joined": mapping.room.switchboard_joined,
    }


def _heal_sender(memory: Memory) -> None:
    homeserver = homeserver_here()
    txn_id = f"sb.unfault.{memory['event_id'][-60:]}"
    try:
        homeserver.client.redact(memory["room_id"], memory["event_id"], txn_id=txn_id, user_id=homeserver.sender_id)
        if not memory["joined"]:
            homeserver.client.leave(memory["room_id"], homeserver.sender_id)
    except Refused:
        # Not in the room (any more): it was healed before.
        return


register_fault(
    "identity.wrong_sender",
    title="An answer stands in an agent's room as Switchboard's own.",
    cause=_cause_sender,
    heal=_heal_sender,
    needs=("homeserver",),
    target=target_of,
    repair_target=lambda memory: f"agent:{memory['agent']}",
    evidence=("wrong", "events"),
)


def _cause_invitation() -> Memory:
    homeserver = homeserver_here()
    mapping = first_mapping(homeserver)
    assert mapping.room is not None
    assert mapping.room.room_id
    person = f"@barred_{secrets.token_hex(4)}:{homeserver.server_name}"
    homeserver.client.ban(mapping.room.room_id, person, mapping.account.user_id)
    for _ in range(3):
        invite(homeserver, mapping.room, person, mapping.account.user_id)
    return {"room": mapping.room.pk, "room_id": mapping.room.room_id, "user_id": person, "by": mapping.account.user_id}


def _heal_invitation(memory: Memory) -> None:
    Invitation.objects.filter(room_id=memory["room"], user_id=memory["user_id"]).delete()


register_fault(
    "matrix.invite_loop",
    title="Somebody is invited who is banned from the room.",
    cause=_cause_invitation,
    heal=_heal_invitation,
    needs=("homeserver",),
    evidence=("count", "invitations"),
)


def _cause_space_lost() -> Memory:
    homeserver = homeserver_here()
    row = space_row(homeserver)
    if row is None or not row.room_id:
        raise FaultRefused("There is no space yet. Sync the agents first.")
    homeserver.client.delete_alias(space_alias(homeserver), homeserver.sender_id)
    return {"service": homeserver.service.name, "room_id": row.room_id, "alias": space_alias(homeserver)}


def _heal_space_lost(memory: Memory) -> None:
    point_alias(homeserver_here(), memory["alias"], memory["room_id"])


register_fault(
    "space.lost",
    title="The space's address leads nowhere.",
    cause=_cause_space_lost,
    heal=_heal_space_lost,
    needs=("homeserver",),
    target=target_of,
    evidence=("alias", "alias_leads_to", "room_id"),
)


def _cause_duplicate() -> Memory:
    homeserver = homeserver_here()
    mapping = first_mapping(homeserver)
    assert mapping.room is not None
    assert mapping.room.room_id
    made = homeserver.client.create_room(
        user_id=homeserver.sender_id, name=space_name(homeserver), is_space=True, preset="private_chat"
    )
    homeserver.client.add_to_space(made, mapping.room.room_id, user_id=homeserver.sender_id)
    return {"service": homeserver.service.name, "room_id": made}


def _heal_duplicate(memory: Memory) -> None:
    homeserver = homeserver_here()
    row = space_row(homeserver)
    if memory["room_id"] in homeserver.client.joined_rooms(homeserver.sender_id) and row is not None:
        content = {"body": "Not in use.", "replacement_room": row.room_id}
        homeserver.client.put_state(memory["room_id"], "m.room.tombstone", "", content, homeserver.sender_id)


register_fault(
    "space.duplicates",
    title="There is a second space of the same name.",
    cause=_cause_duplicate,
    heal=_heal_duplicate,
    needs=("homeserver",),
    target=target_of,
    evidence=("keeper", "duplicates"),
)


def _cause_unlisted() -> Memory:
    homeserver = homeserver_here()
    mapping, row = first_mapping(homeserver), space_row(homeserver)
    if row is None or not row.room_id:
        raise FaultRefused("There is no space yet. Sync the agents first.")
    assert mapping.room is not None
    assert mapping.room.room_id
    homeserver.client.remove_from_space(row.room_id, mapping.room.room_id, user_id=homeserver.sender_id)
    homeserver.client.put_state(mapping.room.room_id, "m.space.parent", row.room_id, {}, mapping.account.user_id)
    return {
        "service": homeserver.service.name,
        "space": row.room_id,
        "room_id": mapping.room.room_id,
        "user_id": mapping.account.user_id,
    }


def _heal_unlisted(memory: Memory) -> None:
    homeserver = homeserver_here()
    homeserver.client.add_to_space(memory["space"], memory["room_id"], user_id=homeserver.sender_id)
    homeserver.client.set_parent(memory["room_id"], memory["space"], user_id=memory["user_id"])


register_fault(
    "space.rooms_missing",
    title="A room is no longer listed in the space.",
    cause=_cause_unlisted,
    heal=_heal_unlisted,
    needs=("homeserver",),
    target=target_of,
    evidence=("not_listed", "space"),
)
