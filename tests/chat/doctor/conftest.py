"""The stage for these tests, and a world that is well: a worker has just reported."""

from __future__ import annotations

import pytest
from django.utils import timezone

from ops.models import Heartbeat
from tests.support.stage import Stage, _fake_homeserver, stage

__all__ = ["_fake_homeserver", "house", "stage"]


@pytest.fixture
def house(transactional_db: None, stage: Stage) -> Stage:
    Heartbeat.objects.create(name="worker:test", started_at=timezone.now(), seen_at=timezone.now())
    stage.agent("Ada")
    stage.agent("Bea")
    for name in ("Ada", "Bea"):
        stage.enters(stage.fresh(name))
    return stage
