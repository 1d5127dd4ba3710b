"""Services of real servers and stand-ins, and checks run as the installation runs them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agents.backends import registry
from agents.doctor.letta import drift
from agents.models import Agent
from agents.services.backends import backend_for
from ops.models import Service
from ops.runner import CheckRun, run_checks
from ops.services.services import service_save
from tests.support.stage import _fake_homeserver, stage

__all__ = ["_fake_homeserver", "stage"]

LETTA_URL = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    drift.forget_descriptions()
    yield
    registry.close_all()
    drift.forget_descriptions()


def letta_service(url: str, *, name: str = "letta", agents: bool = True, **fields: Any) -> Service:
    """A Letta service, with rows for the agents that it lists."""
    service = service_save(actor="test", name=name, kind="letta", base_url=url, **fields)
    if agents:
        for info in backend_for(service).list_agents().agents:
            Agent.objects.create(service=service, external_id=info.external_id, name=info.name, model=info.model)
    return service


def change(service: Service, **fields: Any) -> Service:
    """The service with other values, saved as an operator would."""
    service.refresh_from_db()
    values: dict[str, Any] = {"base_url": service.base_url, "managed_by": service.managed_by, **fields}
    return service_save(actor="test", name=service.name, kind=service.kind, **values)


def outcome(check: str, target: str = "") -> CheckRun:
    """What one check finds now, its dependencies left aside."""
    runs = run_checks([check])
    return next(run for run in runs if run.target == target)
