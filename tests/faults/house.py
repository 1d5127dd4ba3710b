"""A whole installation over a stand-in for Letta that keeps a ledger of every input it was given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from agents.matrix.client import AppserviceClient
from tests.peers.letta_stub import LettaStub
from tests.peers.postgres import Postgres
from tests.peers.redis import Redis
from tests.peers.switchboard import Stack
from tests.peers.synapse import MatrixUser, Synapse
from tests.support.prepared import database_with_tables


@dataclass
class House:
    """Everything that runs, and what tests ask of it."""

    stack: Stack
    synapse: Synapse
    letta: LettaStub
    postgres: Postgres
    redis: Redis
    ann: MatrixUser

    def sync(self, *arguments: str) -> dict[str, Any]:
        """One pass; the report."""
        printed, _ = self.stack.call("sync_agents", "--json", *arguments)
        assert printed.startswith("{"), printed
        report: dict[str, Any] = json.loads(printed)
        return report

    def mappings(self) -> list[dict[str, Any]]:
        """Agents with account and room, by name."""
        rows: list[dict[str, Any]] = self.stack.ask(
            "from agents.models import Mapping\n"
            "result=list(Mapping.objects.order_by('agent__external_id').values('agent__external_id','agent__name',"
            "'agent__state','account__user_id','room__room_id','room__alias','room__in_space'))"
        )
        return rows

    def states(self) -> set[str]:
        return {row["agent__state"] for row in self.mappings()}

    def client(self) -> AppserviceClient:
        """The homeserver as the appservice sees it, to look for what should not be there."""
        return AppserviceClient(
            self.synapse.url, self.stack.as_token, self.stack.server_name, sender_localpart="switchboard"
        )


@contextmanager
def running_house(
    agents: int,
    *,
    database: str,
    postgres: Postgres,
    redis: Redis,
    settings: dict[str, str] | None = None,
    processes: bool = True,
) -> Iterator[House]:
    """Start it all; ``processes=False`` leaves web, worker and beat out (for tests of sync)."""
    synapse, letta = Synapse(), LettaStub(agents=agents)
    redis.client().flushall()
    postgres.drop_database(database)
    with letta:
        stack = Stack(
            homeserver_url=synapse.url,
            database_url=database_with_tables(postgres, database),
            redis_url=redis.url,
            settings={"LETTA_BASE_URL": letta.url, "MATRIX_INVITE": "@ann:sb.test", **(settings or {})},
        )
        synapse.registration = stack.write_registration()
        with synapse:
            ann = synapse.register_user("ann", "ann-has-a-password")
            stack.prepare()
            house = House(stack, synapse, letta, postgres, redis, ann)
            if not processes:
                yield house
                return
            with stack:
                yield house
