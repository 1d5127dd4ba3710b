"""The peers as pytest fixtures.

They start when a test first asks for them and live for the whole run; a test that kills one starts it again, or makes its
own. What cannot be installed here is skipped with its reason, but fails in CI (environment variable ``CI``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from .base import Peer, PeerUnavailable
from .install import ensure_chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from .anthropic_stub import AnthropicStub
    from .letta import Letta
    from .letta_stub import LettaStub
    from .model_stub import ModelStub
    from .postgres import Postgres
    from .redis import Redis
    from .synapse import Synapse

CHROMIUM_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def unavailable(error: PeerUnavailable) -> NoReturn:
    """Skip here, fail in CI: there every peer must be installable."""
    if os.environ.get("CI"):
        pytest.fail(str(error), pytrace=False)
    pytest.skip(str(error))


def _running(peer: Peer) -> Iterator[Any]:
    try:
        peer.start()
    except PeerUnavailable as error:
        peer.stop()
        unavailable(error)
    except BaseException:
        peer.stop()
        raise
    yield peer
    peer.stop()


@pytest.fixture(scope="session")
def synapse_factory() -> Iterator[Callable[..., Synapse]]:
    """``synapse_factory(registration=..., room_version=...)`` starts a homeserver; all are stopped at the end of the run."""
    from .synapse import Synapse

    made: list[Synapse] = []

    def make(*arguments: Any, **options: Any) -> Synapse:
        server = Synapse(*arguments, **options)
        made.append(server)
        try:
            return server.start()
        except PeerUnavailable as error:
            unavailable(error)

    yield make
    for server in made:
        server.stop()


@pytest.fixture(scope="session")
def model_stub() -> Iterator[ModelStub]:
    """An OpenAI-compatible provider. Its ledger is shared by the whole run: clear it, or look for your own text."""
    from .model_stub import ModelStub

    yield from _running(ModelStub())


@pytest.fixture(scope="session")
def anthropic_stub() -> Iterator[AnthropicStub]:
    """A provider with Anthropic's protocol. Its ledger is shared by the whole run."""
    from .anthropic_stub import AnthropicStub

    yield from _running(AnthropicStub())


@pytest.fixture(scope="session")
def letta(model_stub: ModelStub) -> Iterator[Letta]:
    """The one real Letta of the run (it takes long to start). Its agents are whatever tests before left: remove yours."""
    from .letta import Letta

    yield from _running(Letta(model_stub.base_url))


@pytest.fixture(scope="session")
def _letta_stub_process() -> Iterator[LettaStub]:
    from .letta_stub import LettaStub

    yield from _running(LettaStub(agents=3))


@pytest.fixture
def letta_stub(_letta_stub_process: LettaStub) -> LettaStub:
    """The stand-in for Letta as just started: 3 agents, no faults, an empty ledger."""
    _letta_stub_process.start()
    _letta_stub_process.reset()
    return _letta_stub_process


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server; make your own database in it."""
    from .postgres import Postgres

    yield from _running(Postgres())


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """A Redis that loses nothing when it is killed; flush it before use."""
    from .redis import Redis

    yield from _running(Redis(durable=True))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A headless Chromium driven by Playwright.

    Of one module only: Playwright's synchronous interface keeps an event loop running in this thread, in which other
    modules' ``asyncio.run`` would fail. For the same reason Django is told not to mind.
    """
    try:
        from playwright.sync_api import sync_playwright

        executable = ensure_chromium()
    except ImportError:
        unavailable(PeerUnavailable("Playwright is missing: pip install -r requirements-dev.txt"))
    except PeerUnavailable as error:
        unavailable(error)
    patch = pytest.MonkeyPatch()
    patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=str(executable), args=list(CHROMIUM_FLAGS))
            yield browser
            browser.close()
    finally:
        patch.undo()
