"""One embedded installation for all tests of the socket that do not break it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chat.socket.place import Person, Place
from tests.up.running import Up


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Up, Place]]:
    up = Up(Path(tmp_path_factory.mktemp("socket")), "--no-homeserver", LOG_LEVEL="debug")
    up.start(120)
    place = Place(up.url, up.environment)
    try:
        yield up, place
    finally:
        place.stop()
        if up.process is not None and up.process.poll() is None:
            up.kill9()


@pytest.fixture
def embedded(running: tuple[Up, Place]) -> Iterator[Place]:
    _, place = running
    place.speed(0)
    yield place
    place.hang_up()


@pytest.fixture
def ada(embedded: Place) -> Person:
    return embedded.person("ada")
