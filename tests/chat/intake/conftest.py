"""An agent in its room, and requests that run on the test's own database connection."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import sync_to_async

from chat.matrix import views
from tests.support.stage import Stage


@pytest.fixture
def house(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """An agent named Ada with Alice in its room. Requests are handled on the test's own database connection."""

    async def here(work: Any) -> Any:
        return await sync_to_async(views._guarded, thread_sensitive=True)(work)

    monkeypatch.setattr(views, "_in_pool", here)
    monkeypatch.setattr(views, "close_old_connections", lambda: None)
    stage.enters(stage.agent())
    return stage


@pytest.fixture
def room_id(house: Stage) -> str:
    return str(house.room().room_id)
