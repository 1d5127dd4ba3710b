"""One installation for each file of browser tests; nothing that the browser complains about passes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.house import Portal
from tests.up.running import Up


@pytest.fixture(scope="module")
def running(tmp_path_factory: Any) -> Iterator[Up]:
    up = Up(tmp_path_factory.mktemp("portal"), "--no-homeserver", LOG_LEVEL="info")
    up.start(180)
    try:
        yield up
    finally:
        up.stop()


@pytest.fixture
def portal(running: Up, chromium: Any) -> Iterator[Portal]:
    """The portal; at the end of each test no script may have failed, no file been missing, no policy been broken."""
    house = Portal(running, chromium)
    yield house
    house.close()
    assert house.complaints == []
