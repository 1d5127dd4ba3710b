"""The steps of a plan that concern our own rows only."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction

from agents.backends.base import AgentInfo
from agents.matrix.names import alias, localpart_for, user_id
from agents.models import Account, Agent, AgentState, Mapping, Room, RoomKind
from agents.services.backends import Homeserver, user_prefix
from agents.sync.observe import fingerprint, usable_avatar
from ops.models import Service
from ops.services.audit import record


def described(info: AgentInfo) -> dict[str, Any]:
    """The columns of an agent that its server fills."""
    return {
        "name": info.name[:255],
        "description": info.description,
        "avatar_url": usable_avatar(info.avatar_url),
        "model": info.model[:255],
        "metadata": info.metadata,
        "fingerprint": fingerprint(info),
    }


@transaction.atomic
def create_agent(service_name: str, info: AgentInfo, *, actor: str) -> Agent:
    """Take up an agent; one that another pass has taken up in the meantime is returned as it is."""
    service = Service.objects.get(name=service_name)
    agent, created = Agent.objects.get_or_create(
        service=service, external_id=info.external_id, defaults=described(info)
    )
    if created:
        record(actor=actor, action="agent.created", target=agent, message=f"{info.name} on {service_name}")
    return agent


@transaction.atomic
def update_agent(agent: Agent, info: AgentInfo, *, actor: str) -> None:
    """Write what the server now says of the agent."""
    before = {"name": agent.name, "description": agent.description, "model": agent.model}
    for field, value in described(info).items():
        setattr(agent, field, value)
    agent.save(update_fields=[*described(info), "updated_at"])
    record(
        actor=actor,
        action="agent.updated",
        target=agent,
        before=before,
        after={"name": agent.name, "description": agent.description, "model": agent.model},
    )


@transaction.atomic
def set_state(agent: Agent, state: AgentState, *, actor: str, **fields: Any) -> None:
    """Move an agent between active, missing and archived."""
    before = agent.state
    for field, value in {"state": state, **fields}.items():
        setattr(agent, field, value)
    agent.save(update_fields=["state", *fields, "updated_at"])
    record(actor=actor, action=f"agent.{state}", target=agent, before={"state": before}, after={"state": str(state)})


def reserve_mapping(homeserver: Homeserver, agent: Agent) -> Mapping:
    """Write down which account and alias are the agent's, before anything is made on the homeserver."""
    existing = Mapping.objects.select_related("account", "room").filter(agent=agent).first()
    if existing is not None and existing.room is not None:
        return existing
    name = agent.service.name
    scopes = ["", name] if agent.service.kind == "letta" else [name]
    # A name that another agent took along when it moved to another server (``services.moving``) is not free any more.
    scopes += [f"{name} {number}" for number in range(2, 6)]
    for number, scope in enumerate(scopes, start=1):
        localpart = localpart_for(agent.external_id, prefix=user_prefix(homeserver), scope=scope)
        try:
            with transaction.atomic():
                return _reserve(homeserver, agent, localpart, existing)
        except IntegrityError:
            # Two Letta servers with one agent id (a cloned database): the second one's names carry its service's name.
            if number == len(scopes):
                raise
    raise AssertionError("unreachable: a service has at least one scope")


def _reserve(homeserver: Homeserver, agent: Agent, localpart: str, existing: Mapping | None) -> Mapping:
    account = existing.account if existing is not None else _free_account(homeserver, localpart)
    name = alias(localpart, homeserver.server_name)
    # A room without a mapping is what an agent left behind whose row was deleted; its alias says whose it is.
    room = Room.objects.filter(homeserver=homeserver.service, alias=name, mapping__isnull=True).first()
    if room is None:
        room = Room.objects.create(homeserver=homeserver.service, kind=RoomKind.AGENT, alias=name)
    if existing is not None:
        existing.room = room
        existing.save(update_fields=["room", "updated_at"])
        return existing
    return Mapping.objects.create(agent=agent, account=account, room=room)


def _free_account(homeserver: Homeserver, localpart: str) -> Account:
    """The account's row; one that an agent left behind whose row was deleted is taken over."""
    full = user_id(localpart, homeserver.server_name)
    left = Account.objects.filter(homeserver=homeserver.service, user_id=full, mapping__isnull=True).first()
    return left or Account.objects.create(homeserver=homeserver.service, user_id=full, localpart=localpart)
