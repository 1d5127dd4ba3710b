"""New agents in blocks with lazy rooms, in turns with as many bare registrations; then first contacts, one after the other."""

from __future__ import annotations

import json
import os
import time
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any
from urllib.parse import quote

import httpx

from bench.inside.setup import start
from bench.measure import cpu_seconds


def main(letta: str, blocks: int, block: int, contacts: int, token: str, pids: dict[str, int]) -> dict[str, Any]:
    """``token`` is that of the person who makes the first contacts; ``pids`` names processes whose processor time is taken along."""
    from agents.services.backends import open_homeserver
    from agents.services.sync import sync_agents
    from agents.sync import apply

    homeserver = open_homeserver()
    # The space, and everything that is made once.
    assert not sync_agents(actor="bench", trigger="bench").findings
    pids = {**pids, "self": os.getpid()}
    rounds: list[dict[str, Any]] = []
    for number in range(blocks):
        count = (number + 1) * block
        httpx.post(f"{letta}/control", json={"agents": count}, timeout=60).raise_for_status()
        one: dict[str, Any] = {}
        for part in ("bare", "ours") if number % 2 else ("ours", "bare"):
            cpu = {name: cpu_seconds(pid) for name, pid in pids.items()}
            then: dict[str, float] = {}
            if part == "bare":
                one["bare"] = _bare(homeserver, number, block, apply.PARALLEL)
            else:
                one["addressable"], one["pass"], then = _ours(sync_agents, block, pids)
            then = then or {name: cpu_seconds(pid) for name, pid in pids.items()}
            one[f"{part}_cpu"] = {name: then[name] - cpu[name] for name in pids}
        rounds.append(one)
    return {"rounds": rounds, "contacts": _contacts(homeserver, contacts, token), "parallel": apply.PARALLEL}


def _ours(sync_agents: Any, block: int, pids: dict[str, int]) -> tuple[float, float, dict[str, float]]:
    """Seconds of a whole pass until the last account was there and until it had ended, and the processor times of the former."""
    began = time.monotonic()
    last, made = began, 0
    cpu: dict[str, float] = {}

    def progress(done: int, total: int, text: str) -> None:
        nonlocal last, made
        if text.startswith("Make the account"):
            made += 1
            if made == block:
                last = time.monotonic()
                cpu.update({name: cpu_seconds(pid) for name, pid in pids.items()})

    report = sync_agents(actor="bench", trigger="bench", progress=progress)
    assert not report.findings, [finding.sentence for finding in report.findings][:3]
    assert report.applied["account.register"] == block, report.applied
    assert "room.create" not in report.applied
    return last - began, time.monotonic() - began, cpu


def _bare(homeserver: Any, number: int, block: int, parallel: int) -> float:
    """Seconds for as many registrations by a bare HTTP client."""
    client = homeserver.client
    names: SimpleQueue[str] = SimpleQueue()
    for place in range(block):
        names.put(f"agent_bare_{number}_{place:06d}")
    headers = {"Authorization": f"Bearer {client._token}"}
    limits = httpx.Limits(max_keepalive_connections=parallel)
    with httpx.Client(base_url=client.base_url, headers=headers, limits=limits, timeout=60, trust_env=False) as http:

        def work() -> None:
            while True:
                try:
                    name = names.get_nowait()
                except Empty:
                    return
                body = {"type": "m.login.application_service", "username": name, "inhibit_login": True}
                http.post("/_matrix/client/v3/register", content=json.dumps(body)).raise_for_status()

        began = time.monotonic()
        threads = [Thread(target=work) for _ in range(parallel)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.monotonic() - began


def _contacts(homeserver: Any, number: int, token: str) -> list[float]:
    """Seconds that a person waits for each room that is made because they join it by its address."""
    from agents.models import Room

    aliases = list(Room.objects.filter(kind="agent", room_id=None).order_by("pk").values_list("alias", flat=True))
    chosen = aliases[:: max(1, len(aliases) // number)][:number]
    found = []
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=homeserver.client.base_url, headers=headers, timeout=60, trust_env=False) as http:
        for alias in chosen:
            began = time.monotonic()
            http.post(f"/_matrix/client/v3/join/{quote(alias, safe='')}", content="{}").raise_for_status()
            found.append(time.monotonic() - began)
    assert Room.objects.filter(kind="agent", room_id__isnull=False).count() == len(chosen)
    return found


if __name__ == "__main__":
    start(main)
