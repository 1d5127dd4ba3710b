"""An operator in front of a house in which things can break."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.cache import cache

from ops.models import Issue, Service
from ops.runner import run_checks
from tests.admin.conftest import World
from tests.admin.doctor.house import CHECKS, doctor_house


@pytest.fixture(autouse=True)
def quick(settings: Any) -> Iterator[None]:
    """Nothing that an earlier test left in the cache, and passwords that cost nothing."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    cache.clear()
    yield
    cache.clear()


@pytest.fixture(autouse=True)
def no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent to workers: the rows say what would be done."""
    monkeypatch.setattr("ops.services.jobs.wake", lambda job: None)


class _Here(threading.Thread):
    """A thread that is none: what it runs sees the rows of the test's transaction."""

    def start(self) -> None:
        self.run()

    def is_alive(self) -> bool:
        return False

    def join(self, timeout: float | None = None) -> None:
        return None


@pytest.fixture
def house(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Test checks and repairs, everything green. The checks run in the test's own thread: committing every row takes seconds."""
    # Names of that one module, not what they stand for everywhere.
    monkeypatch.setattr("ops.runner.threading", SimpleNamespace(Thread=_Here, Lock=threading.Lock))
    monkeypatch.setattr("ops.runner.connections", SimpleNamespace(close_all=lambda: None))
    with doctor_house():
        yield


@pytest.fixture
def broken(house: None, world: World) -> Issue:
    """A service is off; the checks have seen it."""
    Service.objects.filter(pk=world.demo.pk).update(enabled=False)
    run_checks(CHECKS)
    return Issue.objects.get(check_id="test.services_on")


def text_of(answer: Any) -> str:
    """The words of a page, for looking something up in them."""
    assert answer.status_code == 200, answer.status_code
    return str(answer.content.decode())
