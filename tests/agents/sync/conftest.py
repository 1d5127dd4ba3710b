"""The stage for these tests."""

from __future__ import annotations

import pytest

from tests.support.stage import Stage, _fake_homeserver, stage

__all__ = ["_fake_homeserver", "house", "stage"]


@pytest.fixture
def house(stage: Stage) -> Stage:
    stage.homeserver()
    stage.service()
    return stage
