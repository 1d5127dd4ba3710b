"""New agents in blocks, in turns with bare requests for as many rooms: both against the same homeserver, minutes of its life shared."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import httpx

from bench.inside.setup import start
from bench.measure import cpu_seconds


def main(letta: str, blocks: int, block: int, person: str, pids: dict[str, int]) -> dict[str, Any]:
    """``blocks`` times: ``block`` rooms with bare requests, and as many new agents with a pass of sync; the order alternates.

    ``pids`` names processes whose processor time is taken along.
    """
    from agents.services.backends import open_homeserver
    from agents.services.sync import sync_agents
    from agents.sync import apply

    homeserver = open_homeserver()
    cost = _watch_steps()
    # The space, and everything that is made once.
    report = sync_agents(actor="bench", trigger="bench")
    assert not report.findings, [finding.sentence for finding in report.findings]
    space = _space()
    bare = _Bare(homeserver, apply.PARALLEL, person, space)
    cost.clear()
    rounds: list[dict[str, Any]] = []
    pids = {**pids, "self": os.getpid()}
    made = 0
    for number in range(blocks):
        made += block

        def ours() -> None:
            httpx.post(f"{letta}/control", json={"agents": made}, timeout=30).raise_for_status()  # noqa: B023

        one: dict[str, Any] = {}
        ours()
        for part in ("bare", "ours") if number % 2 else ("ours", "bare"):
            began, cpu = time.monotonic(), {name: cpu_seconds(pid) for name, pid in pids.items()}
            if part == "bare":
                bare.prepare(block)
                began, cpu = time.monotonic(), {name: cpu_seconds(pid) for name, pid in pids.items()}
                bare.block()
            else:
                report = sync_agents(actor="bench", trigger="bench")
                assert not report.findings, [finding.sentence for finding in report.findings]
                assert report.applied["space.add"] == block, report.applied
            one[part] = time.monotonic() - began
            one[f"{part}_cpu"] = {name: cpu_seconds(pid) - cpu[name] for name, pid in pids.items()}
        rounds.append(one)
    return {"rounds": rounds, "cost": dict(cost), "parallel": apply.PARALLEL}


def _space() -> str:
    from agents.models import Room

    return Room.objects.get(kind="space").room_id or ""


class _Bare:
    """Rooms like the agents', with one request each by a bare HTTP client; the accounts exist before the clock runs."""

    def __init__(self, homeserver: Any, parallel: int, person: str, space: str) -> None:
        self.homeserver, self.parallel, self.person, self.space = homeserver, parallel, person, space
        self.made = 0
        self.names: list[str] = []
        client = homeserver.client
        limits = httpx.Limits(max_keepalive_connections=parallel)
        headers = {"Authorization": f"Bearer {client._token}"}
        self.http = httpx.Client(base_url=client.base_url, headers=headers, limits=limits, timeout=60, trust_env=False)

    def prepare(self, number: int) -> None:
        """Make the accounts for so many rooms."""
        names = [f"agent_bare_{self.made + place:06d}" for place in range(number)]
        self.made += number
        for place, name in enumerate(names):
            self.homeserver.client.register(name)
            self.homeserver.client.set_display_name(f"@{name}:{self.homeserver.server_name}", f"Bare agent {place}")
        self.names = names

    def block(self) -> None:
        """Make the rooms."""
        _side_by_side(self.names, self._create, self.parallel)

    def _create(self, name: str) -> None:
        server = self.homeserver.server_name
        body = {
            "visibility": "private",
            "preset": "private_chat",
            "name": f"Agent {name}",
            "is_direct": False,
            "topic": f"Chat with Agent {name}.",
            "room_alias_name": name,
            "invite": [self.person],
            "initial_state": [
                {"type": "m.room.guest_access", "state_key": "", "content": {"guest_access": "forbidden"}},
                {"type": "m.space.parent", "state_key": self.space, "content": {"via": [server], "canonical": True}},
            ],
        }
        answer = self.http.post(
            "/_matrix/client/v3/createRoom", params={"user_id": f"@{name}:{server}"}, content=json.dumps(body)
        )
        answer.raise_for_status()


def _side_by_side(names: Sequence[str], work: Callable[[str], None], parallel: int) -> None:
    waiting: SimpleQueue[str] = SimpleQueue()
    for name in names:
        waiting.put(name)
    errors: list[Exception] = []

    def run() -> None:
        while not errors:
            try:
                work(waiting.get_nowait())
            except Empty:
                return
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(parallel)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _watch_steps() -> dict[str, list[float]]:
    """Time each kind of step, where it is applied."""
    from agents.sync.apply import Applier

    cost: dict[str, list[float]] = {}
    apply_step = Applier._apply_step

    def timed(self: Any, step: Any, agent: Any) -> Any:
        began = time.monotonic()
        result = apply_step(self, step, agent)
        cost.setdefault(step.kind, []).append((time.monotonic() - began) * 1000)
        return result

    Applier._apply_step = timed  # type: ignore[method-assign]
    return cost


if __name__ == "__main__":
    start(main)
