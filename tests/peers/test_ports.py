"""Ports of tests: no two processes are given the same one."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from . import ports
from .base import PROJECT_ROOT
from .ports import BLOCK, FIRST, LAST, MOST_BLOCKS, STRIDE, Ports

TAKE = """
import json, sys
from pathlib import Path
from tests.peers.ports import Ports
ports = Ports(Path(sys.argv[1]))
print(json.dumps([ports.take() for _ in range(40)]), flush=True)
sys.stdin.read()
"""


def test_processes_side_by_side_get_ports_of_their_own(tmp_path: Path) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TAKE, str(tmp_path)],
            cwd=PROJECT_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    try:
        given = [json.loads(one.stdout.readline()) for one in started]
    finally:
        for one in started:
            one.communicate(timeout=90)
    all_given = [port for some in given for port in some]
    assert len(set(all_given)) == 4 * 40
    assert all(FIRST <= port <= LAST for port in all_given)
    # Whoever comes after them gets what they had.
    assert Ports(tmp_path).take() in all_given


def test_they_lie_below_those_of_outgoing_connections() -> None:
    known = Path("/proc/sys/net/ipv4/ip_local_port_range")
    lowest = int(known.read_text().split()[0]) if known.exists() else 32_768
    assert lowest > LAST


def test_one_that_is_listened_on_is_passed_over_and_all_are_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = ports.free_port()
    assert ports._is_free(ours)
    with socket.create_server(("127.0.0.1", ours)):
        assert not ports._is_free(ours)
    some = Ports(tmp_path)
    first = some.take()
    monkeypatch.setattr(ports, "_is_free", lambda port: port != first)
    round = [some.take() for _ in range(MOST_BLOCKS * BLOCK // STRIDE)]
    assert first not in round
    assert len(set(round)) == len(round) - 1, "it begins again when it has been through"
