"""``up`` processes that are stopped whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.peers.base import PeerUnavailable
from tests.peers.fixtures import unavailable
from tests.up.running import Up


@pytest.fixture
def make_up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """``make_up(*arguments, fresh=..., **settings)``: an ``Up`` in a folder of its own, not started yet."""
    made: list[Up] = []

    def make(*arguments: str, folder: Path | None = None, fresh: bool = False, **settings: str) -> Up:
        one = Up(folder or tmp_path / f"up{len(made)}", *arguments, fresh=fresh, **settings)
        made.append(one)
        return one

    yield make
    for one in made:
        if one.process is not None and one.process.poll() is None:
            one.kill9()


@pytest.fixture(scope="session")
def synapse_environment() -> Path:
    """A Python environment with Synapse, so that not every data directory installs its own."""
    from tests.peers.install import ensure_synapse

    try:
        return ensure_synapse()
    except PeerUnavailable as error:
        unavailable(error)
