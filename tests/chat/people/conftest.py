"""People at the door."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from chat.access import limits, registration
from chat.models import Invite, Person
from chat.services.invites import invite_create
from ops import live
from ops.live import live_set

PASSWORD = "xk-29-dune-walker"


@pytest.fixture(autouse=True)
def _fresh(settings: Any) -> Iterator[None]:
    """Counters and live settings of other tests are none of ours; passwords are hashed fast; no window ends in the middle of a test."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    cache.clear()
    live.forget()
    yield
    cache.clear()
    live.forget()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The time that limits go by, which a test moves."""

    class Clock:
        now = 1_800_000_000.0

        def time(self) -> float:
            return self.now

    stopped = Clock()
    monkeypatch.setattr(limits, "time", stopped)
    return stopped


@pytest.fixture
def ada(db: Any) -> Person:
    return Person.objects.create_user("ada", email="ada@example.org", password=PASSWORD, display_name="Ada L.")


@pytest.fixture
def bob(db: Any) -> Person:
    return Person.objects.create_user("bob", email="bob@example.org", password=PASSWORD)


@pytest.fixture
def root(db: Any) -> Person:
    return Person.objects.create_user("root", password=PASSWORD, is_staff=True, is_superuser=True)


@pytest.fixture
def invited(db: Any) -> Callable[..., tuple[Invite, str]]:
    """Makes an invitation: (row, code)."""
    return lambda **more: invite_create(actor="test", **more)


@pytest.fixture
def mode(db: Any) -> Callable[[str], None]:
    """Sets the registration mode, live."""
    return lambda value: live_set(key=registration.KEY, value=value, actor="test") and None


@pytest.fixture
def strict() -> Client:
    """A client whose requests are checked for forgery, as a browser's are."""
    return Client(enforce_csrf_checks=True)


def joining(code: str = "", username: str = "eve", **more: str) -> dict[str, str]:
    """What the form of joining sends."""
    return {"code": code, "username": username, "password": PASSWORD, "email": "", "display_name": "", **more}


def signing_in(login: str, password: str = PASSWORD, **more: str) -> dict[str, str]:
    return {"login": login, "password": password, **more}
