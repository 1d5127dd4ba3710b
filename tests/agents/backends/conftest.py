from __future__ import annotations

from collections.abc import Iterator

import pytest

from agents.backends.registry import close_all

from .server import ScriptedServer


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    yield scripted
    close_all()
    scripted.close()
