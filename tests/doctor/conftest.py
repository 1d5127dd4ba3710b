"""Installations that work, for things to be broken in."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.doctor.faults import all_faults
from tests.peers.base import PROJECT_ROOT
from tests.peers.letta import Letta
from tests.up.running import Up


class Proofs:
    """What the prover says about each fault of one installation. It runs once, for the tests that were chosen; each test reads
    on until it comes to its own."""

    def __init__(self, environment: dict[str, str], checks: list[str], errors: Path) -> None:
        self.checks, self._errors = checks, errors
        self._lines: list[dict[str, Any]] = []
        self._file = errors.open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.doctor.prover", *checks],
            cwd=PROJECT_ROOT, env=environment, stdout=subprocess.PIPE, stderr=self._file, text=True,
        )  # fmt: skip

    def line(self, key: str, value: str = "") -> dict[str, Any]:
        """The first line that has this key (with this value)."""
        for line in self._lines:
            if key in line and value in ("", line[key]):
                return line
        assert self._process.stdout is not None
        for text in self._process.stdout:
            if not text.startswith("{"):
                continue
            line = json.loads(text)
            self._lines.append(line)
            if key in line and value in ("", line[key]):
                return line
        raise AssertionError(f"The prover ended before it came to {key} {value}:\n{self._errors.read_text()[-4000:]}")

    def close(self) -> None:
        """End the prover."""
        self._process.terminate()
        self._process.wait(60)
        self._file.close()


def chosen(request: pytest.FixtureRequest, needs: frozenset[str]) -> list[str]:
    """Faults whose tests run in this session and that need nothing but ``needs``."""
    names = {item.callspec.params.get("check_id") for item in request.session.items if hasattr(item, "callspec")}
    return [fault.check_id for fault in all_faults() if fault.check_id in names and set(fault.needs) <= needs]


@pytest.fixture(scope="module")
def embedded_proofs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, letta: Letta
) -> Iterator[Proofs]:
    """``manage.py up`` with a real Synapse of its own, and a real Letta with a few agents."""
    from tests.peers.install import ensure_synapse

    up = Up(
        tmp_path_factory.mktemp("doctor"),
        SWITCHBOARD_SYNAPSE_VENV=str(ensure_synapse()),
        LETTA_BASE_URL=letta.url,
        SYNC_INTERVAL="3600",
    )
    agents = [made["id"] for made in letta.create_agents(6, "Prudence")]
    try:
        up.start()
        up.manage("sync_agents")
        proofs = Proofs(up.environment, chosen(request, EMBEDDED_NEEDS), up.folder / "prover.txt")
        try:
            yield proofs
        finally:
            proofs.close()
    finally:
        up.stop()
        for agent in agents:
            letta.delete_agent(agent)


EMBEDDED_NEEDS = frozenset({"homeserver", "backend", "letta"})
