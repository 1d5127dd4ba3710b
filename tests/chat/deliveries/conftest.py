"""An agent in its room."""

from __future__ import annotations

import pytest

from tests.support.stage import Stage


@pytest.fixture
def house(stage: Stage) -> Stage:
    """Ada with Alice in its room."""
    stage.enters(stage.agent())
    return stage


@pytest.fixture
def room_id(house: Stage) -> str:
    return str(house.room().room_id)
