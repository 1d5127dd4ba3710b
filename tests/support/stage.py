"""The stage on which the core is tested: a fake homeserver at the HTTP edge, scripted backends, and no hidden threads or clocks.

What a worker would do is done by the test itself (``stage.drain()``); wake-ups, frames and courtesies are recorded instead of sent.
Import ``stage`` and its neighbours into a ``conftest.py``.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connections

from agents.backends import registry
from agents.backends.base import AgentInfo
from agents.models import Agent, Mapping, Room
from ops.models import Service
from tests.support.fake_homeserver import AS_TOKEN, HS_TOKEN, SERVER_NAME, FakeHomeserver
from tests.support.scripted_backend import WORLD, World

ALICE = f"@alice:{SERVER_NAME}"
BOB = f"@bob:{SERVER_NAME}"
STRANGER = "@mallory:elsewhere.test"


class Inline(Executor):
    """Runs what it is given at once, in the thread of the caller."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments, **named))
        except BaseException as error:
            future.set_exception(error)
        return future


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def __getattr__(self, name: str) -> Any:
        import time

        return getattr(time, name)


class Stage:
    """What a test has in its hands."""

    def __init__(self, fake: FakeHomeserver, world: World) -> None:
        self.fake, self.world = fake, world
        self.woken_turns: list[int] = []
        self.woken_deliveries: list[int] = []
        self.woken_tasks: list[str] = []
        self.timers: list[tuple[str, int, float]] = []
        self.frames: list[dict[str, Any]] = []
        self.person_frames: list[tuple[int, dict[str, Any]]] = []
        self.courtesies: list[tuple[float, Callable[[], None]]] = []
        self._numbers = itertools.count(1)

    # Making things

    def homeserver(self, **fields: Any) -> Service:
        values: dict[str, Any] = {
            "name": "homeserver",
            "kind": "homeserver",
            "base_url": self.fake.url,
            "credentials": {"as_token": AS_TOKEN, "hs_token": HS_TOKEN},
            "options": {"server_name": SERVER_NAME},
            **fields,
        }
        return Service.objects.create(**values)

    def service(self, name: str = "scripts", kind: str = "scripted", **fields: Any) -> Service:
        return Service.objects.create(name=name, kind=kind, **fields)

    def lists(self, service: Service | str, *names: str, **infos: Any) -> list[AgentInfo]:
        """Let a scripted server list agents of these names (their ids are made from the names)."""
        name = service if isinstance(service, str) else service.name
        found = [AgentInfo(f"id-{one.lower().replace(' ', '-')}", one, **infos) for one in names]
        self.world.agents[name] = found
        return found

    def agent(self, name: str = "Ada", *, kind: str = "scripted", homeserver: bool = True) -> Agent:
        """An agent with account and room on the fake homeserver (its service and the homeserver are made when missing)."""
        if homeserver and not Service.objects.filter(kind="homeserver").exists():
            self.homeserver()
        service = Service.objects.filter(name=f"{kind}-service").first() or self.service(f"{kind}-service", kind)
        known = [info.name for info in self.world.agents.get(service.name, [])]
        self.lists(service, *known, name)
        self.sync()
        return self.fresh(name)

    def fresh(self, name: str = "Ada") -> Agent:
        return Agent.objects.select_related("service", "mapping__account", "mapping__room").get(name=name)

    def mapping(self, name: str = "Ada") -> Mapping:
        return Mapping.objects.select_related("account", "room", "agent").get(agent__name=name)

    def room(self, name: str = "Ada") -> Room:
        room = self.mapping(name).room
        assert room is not None
        return room

    # Doing things

    def sync(self, **options: Any) -> Any:
        from agents.services.sync import sync_agents

        return sync_agents(**{"actor": "test", **options})

    def enters(self, agent: Agent, *people: str) -> str:
        """People join the agent's room. Returns the room id."""
        room_id = str(agent.mapping.room.room_id)
        for person in people or (ALICE,):
            self.fake.person_joins(room_id, person)
        return room_id

    def says(self, agent: Agent, text: str, person: str = ALICE, **content: Any) -> dict[str, Any]:
        """A person says something in the agent's room; it is taken in. Returns the event."""
        event = self.fake.person_says(str(agent.mapping.room.room_id), person, text, **content)
        self.receive(event)
        return event

    def receive(self, *events: Any) -> Any:
        from chat.matrix.events import receive

        return receive(list(events), Service.objects.get(kind="homeserver"))

    def run_turns(self) -> None:
        """What workers would do with turns that may run now."""
        from chat.turns import claim
        from chat.turns.run import run_turn

        for _ in range(200):
            ready = list(claim.runnable().values_list("pk", flat=True))
            if not ready:
                return
            for pk in ready:
                run_turn(pk)
        raise AssertionError("turns never come to rest")

    def run_deliveries(self) -> None:
        from chat.deliveries.run import run_delivery, runnable

        for _ in range(200):
            ready = list(runnable().values_list("pk", flat=True))
            if not ready:
                return
            for pk in ready:
                run_delivery(pk)
        raise AssertionError("deliveries never come to rest")

    def drain(self) -> None:
        """Run all that is due, in the order of a sweep, until nothing is."""
        self.run_turns()
        self.run_deliveries()

    def hurry(self) -> None:
        """Everything that waits for its time is due now."""
        from django.utils import timezone

        from chat.models import Delivery, Turn

        now = timezone.now()
        Turn.objects.filter(state="queued").update(not_before=now)
        Delivery.objects.filter(state="queued").update(not_before=now)

    def deltas(self, turn_id: int | None = None) -> list[dict[str, Any]]:
        return [
            frame for frame in self.frames if frame["type"] == "delta" and (turn_id is None or frame["turn"] == turn_id)
        ]

    def push(self, client: Any, *events: Any, txn: str = "", token: str = HS_TOKEN, body: Any = None) -> Any:
        """What the homeserver does: ``PUT /transactions/{id}``. Returns the answer."""
        data = body if body is not None else json.dumps({"events": list(events)})
        return client.put(
            f"/_matrix/app/v1/transactions/{txn or next(self._numbers)}",
            data,
            content_type="application/json",
            headers={"Authorization": f"Bearer {token}"} if token else {},
        )


@pytest.fixture(scope="session")
def _fake_homeserver() -> Iterator[FakeHomeserver]:
    from agents.matrix.clients import close_all

    with FakeHomeserver() as server:
        yield server
    close_all()


@pytest.fixture
def stage(_fake_homeserver: FakeHomeserver, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[Stage]:
    from agents.sync import apply
    from chat import live, wakeup
    from chat.intake import guards
    from chat.matrix import courtesy, gaps, preview
    from chat.services import quotas

    _fake_homeserver.reset()
    WORLD.reset()
    registry.close_all()
    gaps._noted.clear()
    gaps._names.clear()
    guards._notices.clear()
    quotas.forget()
    stage = Stage(_fake_homeserver, WORLD)
    settings.MATRIX_INVITE = []
    settings.DISABLED_AGENT_IDS = []
    monkeypatch.setattr(guards, "_recent", guards._RecentTexts())
    # One agent after the other in the test's own thread, so that tests see their uncommitted rows.
    monkeypatch.setattr(apply, "PARALLEL", 1)
    monkeypatch.setattr(preview, "_pool", Inline())
    # In the test's own thread there is no connection to give back.
    monkeypatch.setattr(preview, "connection", SimpleNamespace(close_if_unusable_or_obsolete=lambda: None))
    monkeypatch.setattr(courtesy, "_schedule", lambda delay, action: stage.courtesies.append((delay, action)))
    monkeypatch.setattr(courtesy, "_typing", {})
    monkeypatch.setattr(courtesy, "_receipts", {})
    monkeypatch.setattr(live, "publish", lambda conversation_id, frame: stage.frames.append(frame))
    monkeypatch.setattr(live, "publish_person", lambda person_id, frame: stage.person_frames.append((person_id, frame)))

    def send(task: str, *ids: int) -> None:
        if task == wakeup.RUN_TURN:
            stage.woken_turns.extend(ids)
        elif task == wakeup.DELIVER:
            stage.woken_deliveries.extend(ids)
        else:
            stage.woken_tasks.append(task)

    def later(wake: Any, pk: int, seconds: float) -> None:
        stage.timers.append((wake.__name__, pk, seconds))

    monkeypatch.setattr(wakeup, "_send", send)
    monkeypatch.setattr(wakeup, "_later", later)
    yield stage
    WORLD.reset()
    registry.close_all()


def in_threads(count: int, action: Callable[[int], Any]) -> list[Any]:
    """Run ``action(0…count-1)`` at the same moment in threads of their own; results (or exceptions) in order."""
    barrier = threading.Barrier(count)
    results: list[Any] = [None] * count

    def run(number: int) -> None:
        try:
            barrier.wait(60)
            results[number] = action(number)
        except BaseException as error:
            results[number] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results
