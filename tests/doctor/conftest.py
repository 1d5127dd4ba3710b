"""Installations that work, for things to be broken in."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from ops.doctor.faults import all_faults
from tests.peers.base import PROJECT_ROOT
from tests.peers.letta import Letta
from tests.up.running import Up


class Proofs:
    """What the prover said about each fault of one installation; it runs once, for the tests that were chosen."""

    def __init__(self, baseline: dict[str, str], results: dict[str, dict[str, Any]], errors: str) -> None:
        self.baseline, self.results, self.errors = baseline, results, errors


def run_prover(environment: dict[str, str], checks: list[str]) -> Proofs:
    """Run the prover with an installation's settings."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.doctor.prover", *checks],
        cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    baseline = next((line["baseline"] for line in lines if "baseline" in line), {})
    return Proofs(baseline, {line["check"]: line for line in lines if "check" in line}, done.stderr[-4000:])


def chosen(request: pytest.FixtureRequest, needs: frozenset[str]) -> list[str]:
    """Faults whose tests run in this session and that need nothing but ``needs``."""
    names = {item.callspec.params.get("check_id") for item in request.session.items if hasattr(item, "callspec")}
    return [fault.check_id for fault in all_faults() if fault.check_id in names and set(fault.needs) <= needs]


@pytest.fixture(scope="session")
def embedded_proofs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, letta: Letta
) -> Iterator[Proofs]:
    """``manage.py up`` with a real Synapse of its own, the demo agents, and a real Letta with an agent."""
    from tests.peers.install import ensure_synapse

    up = Up(
        tmp_path_factory.mktemp("doctor"),
        SWITCHBOARD_SYNAPSE_VENV=str(ensure_synapse()),
        LETTA_BASE_URL=letta.url,
        SYNC_INTERVAL="3600",
    )
    agent = letta.create_agent("Prudence")["id"]
    try:
        up.start(120)
        up.manage("sync_agents")
        yield run_prover(up.environment, chosen(request, EMBEDDED_NEEDS))
    finally:
        up.stop()
        letta.delete_agent(agent)


EMBEDDED_NEEDS = frozenset({"homeserver", "backend", "letta"})
