"""What records are compared with: the agents that services list, our own rows, and what the homeserver has."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeVar

from django.conf import settings

from agents.backends.errors import BackendError
from agents.importing.records import Record
from agents.matrix.errors import Forbidden, MatrixError, NotFound, Refused, TokenRefused, account_is_missing
from agents.matrix.names import alias, localpart_of
from agents.models import Account, Agent, Room
from agents.services.backends import Homeserver, backend_for
from agents.sync.observe import tidy
from ops.logs import get_logger
from ops.models import Service
from ops.side_by_side import side_by_side

log = get_logger(__name__)

_CHUNK = 500
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ListedService:
    """A service on which agents of the file may live. ``names``: its agents by id, ``None`` when it could not be asked."""

    pk: int
    name: str
    names: dict[str, str] | None
    complete: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class StoredMapping:
    """What our rows say of an agent. Empty texts for what it does not have yet."""

    agent_pk: int
    service_pk: int
    external_id: str
    name: str
    state: str
    mapping_pk: int | None = None
    user_id: str = ""
    registered: bool = False
    room_id: str = ""


@dataclass(frozen=True, slots=True)
class FoundAccount:
    """What the homeserver says of an account. ``ours``: we may speak as it, and ``joined`` are its rooms; ``outside``: only with a
    session of its own; ``missing``: there is none; ``unknown``: it was not asked, or gave no answer. ``alias_room`` is where the
    address that belongs to the account leads.
    """

    state: Literal["ours", "outside", "missing", "unknown"]
    joined: frozenset[str] = frozenset()
    alias_room: str = ""


UNKNOWN = FoundAccount("unknown")


@dataclass(slots=True)
class MappingFacts:
    """All that the plan of mappings is made from; plain values, so that the plan itself is a pure function."""

    server_name: str
    services: Sequence[ListedService]
    service_name: str = ""
    agents: dict[str, list[StoredMapping]] = field(default_factory=dict)
    # Which agent (its row) has an account or a room, 0 for a row that is no agent's; rooms with their kind.
    accounts: dict[str, int] = field(default_factory=dict)
    rooms: dict[str, tuple[int, str]] = field(default_factory=dict)
    found: dict[str, FoundAccount] = field(default_factory=dict)


class World:
    """Asked by the planners of all parts. Nothing in it writes; what is not needed is not asked for."""

    def __init__(
        self,
        *,
        homeserver: Homeserver | None,
        records: dict[str, list[Record]],
        service_name: str = "",
        look_seconds: float = 20.0,
    ) -> None:
        self.homeserver = homeserver
        self.records = records
        self.service_name = service_name
        self.trouble = ""
        self._look_until = time.monotonic() + look_seconds

    @cached_property
    def services(self) -> list[ListedService]:
        """The service that was named, or all enabled Letta services, with their agents. Asked side by side."""
        rows = Service.objects.filter(enabled=True).order_by("pk")
        wanted = list(rows.filter(name=self.service_name) if self.service_name else rows.filter(kind="letta"))
        return side_by_side(_listed, wanted)

    def agents_by_id(self, external_ids: Iterable[str]) -> dict[str, list[StoredMapping]]:
        """Our agents with these ids on any of the services, with account and room. A constant number of queries a thousand."""
        services = [service.pk for service in self.services]
        found: dict[str, list[StoredMapping]] = {}
        columns = (
            "pk", "service_id", "external_id", "name", "state", "mapping__pk", "mapping__account__user_id",
            "mapping__account__registered_at", "mapping__room__room_id",
        )  # fmt: skip
        for some in chunks(external_ids):
            rows = Agent.objects.filter(external_id__in=some, service_id__in=services).order_by("pk")
            for pk, service, external, name, state, mapping, user_id, registered, room_id in rows.values_list(*columns):
                found.setdefault(external, []).append(
                    StoredMapping(
                        pk,
                        service,
                        external,
                        name,
                        state,
                        mapping,
                        user_id or "",
                        registered is not None,
                        room_id or "",
                    )
                )
        return found

    def accounts_of(self, user_ids: Iterable[str]) -> dict[str, int]:
        """Which of these accounts have a row, and whose they are (the agent's row, 0 for nobody's)."""
        found: dict[str, int] = {}
        for some in chunks(user_ids):
            rows = Account.objects.filter(user_id__in=some).values_list("user_id", "mapping__agent_id")
            found.update({user_id: agent or 0 for user_id, agent in rows})
        return found

    def rooms_of(self, room_ids: Iterable[str]) -> dict[str, tuple[int, str]]:
        """Which of these rooms have a row: whose they are, and of what kind."""
        found: dict[str, tuple[int, str]] = {}
        for some in chunks(room_ids):
            rows = Room.objects.filter(room_id__in=some).values_list("room_id", "mapping__agent_id", "kind")
            found.update({room_id: (agent or 0, kind) for room_id, agent, kind in rows if room_id})
        return found

    def account_agents(self) -> dict[str, str]:
        """Whose account is whose after this import: user id to agent id, of the file's mappings and of our rows that they name."""
        return {
            str(record.fields["user_id"]): str(record.fields["agent_id"])
            for record in self.records.get("mapping", ())
            if record.problem is None
        }

    def look(self, wanted: dict[str, str]) -> dict[str, FoundAccount]:
        """What the homeserver says of accounts, ``{user id: room id or ""}``, as many as can be asked in the time that there is."""
        homeserver = self.homeserver
        if homeserver is None or self.trouble:
            return {}
        if getattr(homeserver, "client_mode", False):
            return {user_id: FoundAccount("outside") for user_id in wanted}

        def ask(user_id: str) -> FoundAccount:
            if self.trouble or time.monotonic() > self._look_until:
                return UNKNOWN
            try:
                return ask_account(homeserver, user_id, wanted[user_id])
            except MatrixError as error:
                self.trouble = error.sentence
                return UNKNOWN

        names = list(wanted)
        return dict(zip(names, side_by_side(ask, names), strict=True))


def ask_account(homeserver: Homeserver, user_id: str, room_id: str) -> FoundAccount:
    """One account: whether we may speak as it and which rooms it is in. One request, two when it is not in ``room_id``.

    Raises ``MatrixError`` when the homeserver does not answer or refuses our token.
    """
    client = homeserver.client
    own = alias(localpart_of(user_id), homeserver.server_name)
    try:
        joined = frozenset(client.joined_rooms(user_id))
    except (Forbidden, NotFound) as error:
        state: Literal["outside", "missing"] = "missing" if account_is_missing(error) else "outside"
        return FoundAccount(state, alias_room=_resolve(homeserver, own))
    except Refused as error:
        if isinstance(error, TokenRefused):
            raise
        return FoundAccount("outside", alias_room=_resolve(homeserver, own))
    return FoundAccount("ours", joined, "" if room_id and room_id in joined else _resolve(homeserver, own))


def _resolve(homeserver: Homeserver, name: str) -> str:
    try:
        return homeserver.client.resolve_alias(name) or ""
    except Refused as error:
        if isinstance(error, TokenRefused):
            raise
        return ""


def _listed(service: Service) -> ListedService:
    try:
        listing = backend_for(service).list_agents()
    except BackendError as error:
        return ListedService(service.pk, service.name, None, error=error.reason)
    except Exception as error:
        log.exception("import.listing_crashed", service=service.name)
        return ListedService(service.pk, service.name, None, error=f"{type(error).__name__} in the adapter")
    skip = frozenset(settings.DISABLED_AGENT_IDS)
    names = {info.external_id: tidy(info).name for info in listing.agents if info.external_id not in skip}
    return ListedService(service.pk, service.name, names, listing.complete)


def mapping_facts(world: World, records: Sequence[Record]) -> MappingFacts:
    """Everything that the plan of these mappings needs to know."""
    server = world.homeserver.server_name if world.homeserver is not None else ""
    facts = MappingFacts(server, world.services, world.service_name)
    good = [record.fields for record in records if record.problem is None]
    facts.agents = world.agents_by_id({one["agent_id"] for one in good})
    facts.accounts = world.accounts_of({one["user_id"] for one in good})
    facts.rooms = world.rooms_of({one["room_id"] for one in good if one["room_id"]})
    stored = {one.user_id: one.room_id for many in facts.agents.values() for one in many if one.user_id}
    # What is here already, and says the same, need not be asked about.
    wanted = {
        one["user_id"]: one["room_id"]
        for one in good
        if one["user_id"].partition(":")[2] == server and stored.get(one["user_id"], "-") != one["room_id"]
    }
    facts.found = world.look(wanted)
    return facts


def chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """The items, a few hundred at a time: databases take only so many parameters."""
    every = list(dict.fromkeys(items))
    for start in range(0, len(every), _CHUNK):
        yield every[start : start + _CHUNK]


def sides(**values: Any) -> dict[str, Any]:
    """One side of a comparison of mappings: always the same keys."""
    return {"agent_id": "", "name": "", "user_id": "", "room_id": "", "state": "", **values}
