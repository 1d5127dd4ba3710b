"""Thousands of new agents at once: rows in a few statements, accounts side by side. Rooms come later, on first contact.

Safe at any point: rows are written before anything is made on the homeserver, and an account that is there already is adopted. What
is not quite new (a row or a name that exists) is left to the ordinary way, one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone

from agents.matrix.errors import HomeserverUnreachable, MatrixError, TokenRefused
from agents.matrix.names import alias, user_id
from agents.models import Account, Agent, Mapping, Room, RoomKind
from agents.services.backends import Homeserver
from agents.sync import rows
from agents.sync.steps import Step
from agents.sync.takeover import names_of
from ops.models import Service
from ops.services.audit import record_each

if TYPE_CHECKING:
    from agents.sync.apply import Applier

# So many agents are written in one transaction; the accounts of one slice are made while the next is written.
SLICE = 100
STEPS = ["agent.create", "mapping.create", "account.register"]


class Bulk:
    """The part of an application that can be done in bulk."""

    def __init__(self, homeserver: Homeserver, applier: Applier) -> None:
        self.homeserver, self.applier = homeserver, applier

    def take(self, groups: dict[str, list[Step]]) -> None:
        """Do the groups that consist of nothing but a new agent, its mapping and its account, and remove them from ``groups``."""
        from agents.sync.apply import PARALLEL

        keys = [key for key, group in groups.items() if [step.kind for step in group] == STEPS]
        # In client mode making an account means a session with its rows: one by one.
        if not keys or self.homeserver.client_mode:
            return
        with ThreadPoolExecutor(max_workers=PARALLEL, thread_name_prefix="accounts") as pool:
            under_way: list[tuple[Account, Agent, list[Step], Future[bool]]] = []
            for part in _slices(keys):
                if self._stopped():
                    break
                written = self._write([groups[key] for key in part])
                for _, _, steps in written:
                    groups.pop(steps[0].key)
                    for step in steps[:-1]:
                        self.applier.did(step)
                # Before those of the slice before are waited for: the homeserver always has something to do.
                next_ones = [(*one, pool.submit(self._register, one[0].localpart)) for one in written]
                self._settle(under_way)
                under_way = next_ones
            self._settle(under_way)

    def _stopped(self) -> bool:
        return bool(self.applier.outcome.aborted) or self.applier.should_stop()

    def _register(self, localpart: str) -> bool:
        """False: left for the next pass. Runs without the database."""
        if self._stopped():
            return False
        self.homeserver.client.register(localpart)
        return True

    def _settle(self, under_way: Iterable[tuple[Account, Agent, list[Step], Future[bool]]]) -> None:
        made: list[int] = []
        for account, agent, steps, future in under_way:
            try:
                if future.result():
                    made.append(account.pk)
                    self.applier.did(steps[-1])
            except MatrixError as error:
                self.applier.note_problem(agent, error.sentence)
                self.applier.fail(error.sentence, error.code, steps[0].label)
                if isinstance(error, (HomeserverUnreachable, TokenRefused)):
                    self.applier.abort(error.sentence)
        for start in range(0, len(made), 500):
            Account.objects.filter(pk__in=made[start : start + 500]).update(registered_at=timezone.now())

    def _write(self, groups: list[list[Step]]) -> list[tuple[Account, Agent, list[Step]]]:
        """Rows of the agents of which nothing exists yet; returns them with their steps."""
        services = {service.name: service for service in Service.objects.filter(name__in=_names(groups))}
        server = self.homeserver.server_name
        wanted: dict[str, tuple[Service, list[Step]]] = {}
        for group in groups:
            info, service = group[0].info, services[group[0].detail["service"]]
            assert info is not None
            localpart = names_of(self.homeserver, service.name, service.kind, info.external_id)[0]
            wanted.setdefault(localpart, (service, group))
        with transaction.atomic():
            for localpart in self._taken(wanted):
                wanted.pop(localpart, None)
            agents = Agent.objects.bulk_create(
                [
                    Agent(service=service, external_id=steps[0].info.external_id, **rows.described(steps[0].info))
                    for service, steps in wanted.values()
                    if steps[0].info is not None
                ]
            )
            own = self.homeserver.service
            accounts = Account.objects.bulk_create(
                [Account(homeserver=own, user_id=user_id(name, server), localpart=name) for name in wanted]
            )
            rooms = Room.objects.bulk_create(
                [Room(homeserver=own, kind=RoomKind.AGENT, alias=alias(name, server)) for name in wanted]
            )
            Mapping.objects.bulk_create(
                [
                    Mapping(agent=agent, account=account, room=room)
                    for agent, account, room in zip(agents, accounts, rooms, strict=True)
                ]
            )
            record_each(
                actor=self.applier.actor,
                action="agent.created",
                targets=[(agent, f"{agent.name} on {agent.service.name}") for agent in agents],
                versions=False,
            )
        return [
            (account, agent, steps)
            for account, agent, (_, steps) in zip(accounts, agents, wanted.values(), strict=True)
        ]

    def _taken(self, wanted: dict[str, tuple[Service, list[Step]]]) -> set[str]:
        """Those of the names of which some row exists: an agent of this id, an account, a room that was left behind."""
        server = self.homeserver.server_name
        taken = {
            full[1:].partition(":")[0]
            for full in Account.objects.filter(user_id__in=[user_id(name, server) for name in wanted]).values_list(
                "user_id", flat=True
            )
        }
        own = Room.objects.filter(homeserver=self.homeserver.service)
        aliases = own.filter(alias__in=[alias(name, server) for name in wanted]).values_list("alias", flat=True)
        taken |= {full[1:].partition(":")[0] for full in aliases}
        ids = {steps[0].info.external_id for _, steps in wanted.values() if steps[0].info is not None}
        present = set(Agent.objects.filter(external_id__in=ids).values_list("service_id", "external_id"))
        return taken | {
            name
            for name, (service, steps) in wanted.items()
            if steps[0].info is not None and (service.pk, steps[0].info.external_id) in present
        }


def _names(groups: list[list[Step]]) -> set[str]:
    return {group[0].detail["service"] for group in groups}


def _slices(keys: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(keys), SLICE):
        yield keys[start : start + SLICE]
