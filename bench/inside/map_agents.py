"""Makes rows for agents that are completely mapped, as sync would have left them, without asking any homeserver."""

from __future__ import annotations

from typing import Any

import httpx

from bench.inside.setup import start


def main(server_name: str = "sb.test") -> dict[str, Any]:
    """Map every agent that the service ``letta`` lists. Returns their number."""
    from django.utils import timezone

    from agents.backends.registry import open_backend
    from agents.matrix.names import alias, localpart_for, user_id
    from agents.models import Account, Agent, Mapping, Room, RoomKind
    from agents.services.backends import spec_of
    from agents.sync.plan import topic_for
    from agents.sync.rows import described
    from ops.models import Service

    service, homeserver = Service.objects.get(name="letta"), Service.objects.get(name="homeserver")
    listing = open_backend(spec_of(service)).list_agents()
    assert listing.complete, listing.proof
    now = timezone.now()
    agents = Agent.objects.bulk_create(
        [Agent(service=service, external_id=info.external_id, **described(info)) for info in listing.agents],
        batch_size=2000,
    )
    names = [localpart_for(agent.external_id) for agent in agents]
    accounts = Account.objects.bulk_create(
        [
            Account(
                homeserver=homeserver,
                user_id=user_id(name, server_name),
                localpart=name,
                display_name=agent.name,
                registered_at=now,
            )
            for agent, name in zip(agents, names, strict=True)
        ],
        batch_size=2000,
    )
    rooms = Room.objects.bulk_create(
        [
            Room(
                homeserver=homeserver, kind=RoomKind.AGENT, room_id=f"!{name}:{server_name}", alias=alias(name, server_name),
                name=agent.name, topic=topic_for(agent.name, agent.description), in_space=True, child_order=agent.name.lower(),
                looked_at=now,
            )
            for agent, name in zip(agents, names, strict=True)
        ],
        batch_size=2000,
    )  # fmt: skip
    Mapping.objects.bulk_create(
        [
            Mapping(agent=agent, account=account, room=room)
            for agent, account, room in zip(agents, accounts, rooms, strict=True)
        ],
        batch_size=2000,
    )
    space = Room.objects.create(
        homeserver=homeserver, kind=RoomKind.SPACE, room_id=f"!space:{server_name}", name="Letta Agents", in_space=True,
        alias=f"#agent_space:{server_name}", looked_at=now,
    )  # fmt: skip
    there = [
        {
            "user_id": account.user_id, "room_id": room.room_id, "alias": room.alias, "name": room.name, "topic": room.topic,
            "space": space.room_id,
        }
        for account, room in zip(accounts, rooms, strict=True)
    ]  # fmt: skip
    own = {"user_id": f"@switchboard:{server_name}", "room_id": space.room_id, "alias": space.alias, "name": space.name}
    httpx.post(
        f"{homeserver.base_url}/control/rooms", json=[{**own, "topic": "", "space": ""}, *there], timeout=60
    ).raise_for_status()
    return {"agents": len(agents)}


if __name__ == "__main__":
    start(main)
